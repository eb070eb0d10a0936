"""Manifests: a table of paths and labels in place of a folder of class folders."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.data.sources._places import files_below, read_below, read_whole
from pipeline.data.sources.source import SPLITS, Listing, Place, images_table, text_column
from pipeline.data.tables import BOX
from pipeline.errors import PipelineError, some

_REQUIRED = ("path", "label")
_OPTIONAL = ("split", "group")
_KNOWN = (*_REQUIRED, *_OPTIONAL, *BOX.names)


@dataclass(frozen=True)
class ManifestSource:
    """Image files that a .csv or .parquet table lists: path, label, perhaps split, group, x,y,w,h.

    Paths are relative to the manifest's folder, with forward slashes, and may lead through
    symbolic links.

    Attributes:
        file: the manifest.
    """

    file: Place

    @property
    def folder(self) -> Place:
        """The manifest's folder."""
        file = self.file
        return file.parent if isinstance(file, Path) else file.rpartition("/")[0]

    def list_images(self) -> Listing:
        """List the image files.

        Raises:
            PipelineError: the manifest is unreadable, a column is missing, a value is missing or
                invalid, a path leaves the manifest's folder or stands there twice.
        """
        rows, files = [], files_below(self.folder)
        entries = _read_entries(self.file)
        for path, label, split, group, _ in entries:
            file = files.look(path)
            rows.append((path, label, split, group, file.version, file.obstacle))
        images = images_table(rows)
        if any(entry.box for entry in entries):
            images = _with_boxes(images, entries)
        return Listing(images)

    def read(self, path: str, max_pixels: int | None = None) -> bytes:
        """Read one image file, as `ImageSource` says."""
        return read_below(self.folder, path, max_pixels)


class _Entry(NamedTuple):
    path: str
    label: str
    split: str | None
    group: str | None
    box: tuple[float, ...] | None  # x, y, w, h


def _read_entries(file: Place) -> list[_Entry]:
    table = _read(file)
    names = table.column_names
    if repeated := [name for name in _KNOWN if names.count(name) > 1]:
        raise PipelineError(f"{file} line 1: the column {some(repeated)} is given twice; keep one")
    if missing := [name for name in _REQUIRED if name not in names]:
        raise PipelineError(
            f"{file}: no column {some(missing)}, found {some(names, 10)}; expected path,label and"
            " perhaps split,group,x,y,w,h, or in a .parquet file a column of image bytes and label"
        )
    given = [name for name in BOX.names if name in names]
    if lacking := [name for name in BOX.names if given and name not in names]:
        raise PipelineError(
            f"{file} line 1: boxes take the columns x,y,w,h, and {some(lacking)} is missing;"
            f" add it, or rename {some(given)}"
        )
    columns = [text_column(table, name, "manifest").to_pylist() for name in _KNOWN]
    if not len(table):
        raise PipelineError(f"{file} has no rows; list one image per row as path,label")
    entries = [
        _entry(file, row, values) for row, values in enumerate(zip(*columns, strict=True), start=1)
    ]
    counts = Counter(entry.path for entry in entries)
    if twice := [path for path, count in counts.items() if count > 1]:
        raise PipelineError(f"{file} lists {some(twice)} more than once; keep one row per file")
    return entries


def _read(file: Place) -> pa.Table:
    """Read the table, every CSV value as text: a label 007 is not the number 7."""
    suffix = PurePosixPath(file).suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise PipelineError(
            f"data.root is the file {file}: expected a folder or a .csv or .parquet manifest"
        )
    try:
        content = pa.py_buffer(read_whole(file))
        if suffix == ".parquet":
            return pq.read_table(pa.BufferReader(content))
        with pa.csv.open_csv(pa.BufferReader(content)) as reader:
            names = reader.schema.names
        options = pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        )
        return pa.csv.read_csv(pa.BufferReader(content), convert_options=options)
    except (OSError, pa.ArrowException) as error:
        raise PipelineError(f"cannot read the manifest {file}: {error}; repair it") from error


def _entry(file: Place, row: int, values: Sequence[str | None]) -> _Entry:
    """Check one row, counted from 1 without the header."""
    path, label, split, group, *box = values
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
    if split is not None and split.lower() not in SPLITS:
        raise PipelineError(
            f"{file} row {row}: split is {split}, expected train, val, test or nothing"
        )
    given = None if split is None else SPLITS[split.lower()]
    return _Entry(str(pure), label, given, group, _box(file, row, box))


def _box(file: Place, row: int, values: Sequence[str | None]) -> tuple[float, ...] | None:
    """Check the box of one row: x, y, w, h as text, all or none of them."""
    texts = dict(zip(BOX.names, values, strict=True))
    if not any(texts.values()):
        return None
    numbers = {name: _number(text) for name, text in texts.items()}
    for name, number in numbers.items():
        least = "above 0" if name in ("w", "h") else "of at least 0"
        if number is None or number < 0 or (number == 0 and name in ("w", "h")):
            found = "nothing" if texts[name] is None else texts[name]
            raise PipelineError(
                f"{file} row {row}: {name} of the box is {found}, expected a number of pixels"
                f" {least}; correct it, or leave x,y,w,h empty where an image has no box"
            )
    return tuple(number for number in numbers.values() if number is not None)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _with_boxes(images: pa.Table, entries: Sequence[_Entry]) -> pa.Table:
    """Add the columns of `BOX` and the number of the manifest's row, to a listing's table."""
    found = {entry.path: (row, entry.box) for row, entry in enumerate(entries, start=1)}
    rows, boxes = zip(*(found[path] for path in images["path"].to_pylist()), strict=True)
    for place, field in enumerate(BOX):
        values = [None if box is None else box[place] for box in boxes]
        images = images.append_column(field, pa.array(values, field.type))
    return images.append_column("row", pa.array(rows, pa.int64()))
