"""Manifests: a table of paths and labels in place of a folder of class folders."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.errors import PipelineError, some

_REQUIRED = ("path", "label")
_OPTIONAL = ("split", "group")


@dataclass(frozen=True)
class Entry:
    """One file: its path relative to the data folder, its class, and what is given about it."""

    path: str
    label: str
    split: str | None
    group: str | None


def read_manifest(file: Path, splits: Mapping[str, str]) -> list[Entry]:
    """Read a .csv or .parquet table with the columns path, label and perhaps split, group.

    Args:
        file: the manifest. Paths in it are relative to its folder, with forward slashes.
        splits: how splits may be called, and what each is called here.

    Raises:
        PipelineError: it is unreadable, a column is missing, a value is missing or invalid, a
            path leaves the manifest's folder or stands there twice.
    """
    table = _read(file)
    names = table.column_names
    if repeated := [name for name in (*_REQUIRED, *_OPTIONAL) if names.count(name) > 1]:
        raise PipelineError(f"{file} line 1: the column {some(repeated)} is given twice; keep one")
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise PipelineError(
            f"{file}: no column {some(missing)}, found {some(names, 10)}; expected"
            " path,label and perhaps split,group"
        )
    columns = [_texts(table, name) for name in (*_REQUIRED, *_OPTIONAL)]
    if not len(table):
        raise PipelineError(f"{file} has no rows; list one image per row as path,label")
    entries = [
        _entry(file, row, splits, values)
        for row, values in enumerate(zip(*columns, strict=True), start=1)
    ]
    counts = Counter(entry.path for entry in entries)
    if twice := [path for path, count in counts.items() if count > 1]:
        raise PipelineError(f"{file} lists {some(twice)} more than once; keep one row per file")
    return entries


def _read(file: Path) -> pa.Table:
    """Read the table, every CSV value as text: a label 007 is not the number 7."""
    if file.suffix.lower() not in (".csv", ".parquet"):
        raise PipelineError(
            f"data.root is the file {file}: expected a folder or a .csv or .parquet manifest"
        )
    try:
        if file.suffix.lower() == ".parquet":
            return pq.read_table(file)
        with pa.csv.open_csv(file) as reader:
            names = reader.schema.names
        options = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        )
        return pa.csv.read_csv(file, convert_options=options)
    except (OSError, pa.ArrowException) as error:
        raise PipelineError(f"cannot read the manifest {file}: {error}; repair it") from error


def _texts(table: pa.Table, name: str) -> list[str | None]:
    """Return a column as text; empty values, or a missing optional column, as None."""
    if name not in table.column_names:
        return [None] * len(table)
    try:
        texts = pc.utf8_trim_whitespace(table[name].cast(pa.string()))
    except pa.ArrowException as error:
        raise PipelineError(
            f"manifest column {name} holds {table[name].type}, expected text; convert it"
        ) from error
    return [text or None for text in texts.to_pylist()]


def _entry(
    file: Path,
    row: int,
    splits: Mapping[str, str],
    values: Sequence[str | None],
) -> Entry:
    """Check one row, counted from 1 without the header: path, label, split, group."""
    path, label, split, group = values
    if path is None or label is None:
        raise PipelineError(
            f"{file} row {row}: no {'path' if path is None else 'label'}; fill it in or remove"
            " the row"
        )
    if "\0" in path:
        raise PipelineError(
            f"{file} row {row}: the path {path!r} holds a zero byte, as no file name does; repair"
            " the row"
        )
    pure = PurePosixPath(path)
    if pure.is_absolute() or PureWindowsPath(path).drive or ".." in pure.parts:
        raise PipelineError(
            f"{file} row {row}: the path {path} leaves the manifest's folder; give paths relative"
            " to it, without .."
        )
    if split is not None and split.lower() not in splits:
        raise PipelineError(
            f"{file} row {row}: split is {split}, expected train, val, test or nothing"
        )
    return Entry(str(pure), label, None if split is None else splits[split.lower()], group)
