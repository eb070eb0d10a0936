"""Parquet files that hold the images themselves, as public hubs hand out data sets."""

import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.data.images.decode import UnusableImageError, check_bytes
from pipeline.data.sources._files import File, walk
from pipeline.data.sources.source import IMAGES, SPLITS, Listing, text_column
from pipeline.errors import PipelineError, some

# A label column must have one of these names. An image column is known by its type; among several
# the one with one of these names is taken.
_LABEL_NAMES = ("label", "labels", "fine_label", "target")
_IMAGE_NAMES = ("image", "img", "bytes")

# What may lie beside the Parquet files of a data set; any other file makes it a class folder.
_BESIDE = {".md", ".txt", ".json", ".yaml", ".yml", ".py"}

_BYTES_PER_BATCH = 8 * 2**20
_BYTES_PER_READ = 2**20


@dataclass(frozen=True)
class ParquetSource:
    """One Parquet file, or a folder of them, with a column of image bytes and one of labels.

    The image column is binary, or a struct with a binary field `bytes` (the `Image` feature of
    Hugging Face). The label column is text, or integers: numbers of the class names that the
    metadata `huggingface` holds, else names themselves. Columns `split` and `group` are optional;
    without `split`, file and folder names may give it: `train-00000-of-00002.parquet`,
    `test/0000.parquet`. The path of an image is its file and row: `train.parquet/0000012`.

    Attributes:
        root: the file or the folder.
    """

    root: Path

    @classmethod
    def accepts(cls, root: Path) -> bool:
        """Whether `root` is such a file or folder; a table of paths and labels is none."""
        if root.is_dir():
            return _holds_parquet_only(root)
        if root.suffix.lower() != ".parquet" or not root.is_file():
            return False
        try:
            return bool(_image_columns(pq.read_schema(root)))
        except (OSError, pa.ArrowException):
            return False

    @property
    def folder(self) -> Path:
        """The folder of the files."""
        return self.root if self.root.is_dir() else self.root.parent

    def list_images(self) -> Listing:
        """List the rows of all files; reads labels, but no images.

        Raises:
            PipelineError: a file cannot be read, its columns are missing or ambiguous, or the
                files do not match.
        """
        parts = [_Part.read(self.folder, file) for file in self._files()]
        _check_splits(parts)
        _check_classes(parts)
        return Listing(pa.concat_tables([part.images for part in parts]).sort_by("path"))

    def read(self, path: str, max_pixels: int | None = None) -> bytes:
        """Read the image bytes of one row, as `ImageSource` says; a null reads as no bytes."""
        name, _, row = path.rpartition("/")
        if not row.isdecimal():
            raise UnusableImageError("unreadable: not the name of a row in a Parquet file")
        try:
            content = _reader(f"{self.folder}/{name}").read(int(row))
        except (OSError, pa.ArrowException) as error:
            _OPEN.reader = None
            raise UnusableImageError(f"unreadable: {error}") from error
        check_bytes(len(content), max_pixels)
        return content

    def _files(self) -> list[File]:
        """Return the Parquet files, sorted by name."""
        if self.root.is_dir():
            found = [file for file in walk(self.root) if _is_parquet(file.path)]
        else:
            status = self.root.stat()
            found = [File(self.root.name, f"{status.st_size} {status.st_mtime_ns}", None)]
        for file in found:
            if file.obstacle:  # a whole file of images is too much to be left out
                raise PipelineError(
                    f"{self.folder / file.path}: {file.obstacle}; repair or remove it"
                )
        return found


@dataclass(frozen=True)
class _Part:
    """One file of a data set.

    Attributes:
        name: of the file, relative to the folder.
        classes: the names that label numbers stand for, if the file holds them.
        has_split: whether it gives a split to its rows.
        images: `IMAGES`.
    """

    name: str
    classes: tuple[str, ...] | None
    has_split: bool
    images: pa.Table

    @classmethod
    def read(cls, folder: Path, file: File) -> "_Part":
        path = folder / file.path
        try:
            file.path.encode()
            with pq.ParquetFile(path) as parquet:
                schema = parquet.schema_arrow
                _image_column(path, schema)
                label = _label_column(path, schema)
                wanted = {label, *({"split", "group"} & set(schema.names))}
                table = parquet.read([name for name in schema.names if name in wanted])
        except UnicodeEncodeError as error:
            raise PipelineError(f"{path}: file name is not UTF-8; rename it") from error
        except (OSError, pa.ArrowException) as error:
            raise PipelineError(f"cannot read {path}: {error}; get it again") from error
        classes = _class_names(path, schema, label)
        labels, obstacles = _labels(path, table[label], classes)
        split = _split_of(file.path)
        columns = {
            "path": pa.array([f"{file.path}/{row:07d}" for row in range(len(table))], pa.string()),
            "label": labels,
            "split": pc.coalesce(_splits(path, table), pa.scalar(split, pa.string())),
            "group": text_column(table, "group", f"{path}:"),
            "version": pa.repeat(file.version, len(table)),
            "obstacle": obstacles,
        }
        images = pa.Table.from_arrays([columns[name] for name in IMAGES.names], schema=IMAGES)
        return cls(file.path, classes, split is not None or "split" in schema.names, images)


def _holds_parquet_only(root: Path) -> bool:
    found = False
    for file in walk(root):
        path = PurePosixPath(file.path)
        if _is_parquet(file.path):
            found = True
        elif path.suffix.lower() not in _BESIDE and path.name != "LICENSE":
            return False
    return found


def _is_parquet(path: str) -> bool:
    return path.lower().endswith(".parquet")


def _image_columns(schema: pa.Schema) -> list[str]:
    """Return the columns whose type may hold image files."""
    structs, plain = [], []
    for field in schema:
        if _is_binary(field.type):
            plain.append(field.name)
        elif pa.types.is_struct(field.type):
            inner = field.type.get_field_index("bytes")
            if inner >= 0 and _is_binary(field.type.field(inner).type):
                structs.append(field.name)
    if {"path", "label"} <= set(schema.names):  # a manifest, which may have columns of its own
        plain = [name for name in plain if name in _IMAGE_NAMES]
    return structs + plain


def _is_binary(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _image_column(path: Path, schema: pa.Schema) -> str:
    columns = _image_columns(schema)
    if not columns:
        raise PipelineError(
            f"{path}: no column of image bytes, found {some(schema.names, 10)}; expected a binary"
            " column, or a struct with the field bytes; if it lists paths of files, set data.root"
            " to the file itself"
        )
    named = [name for name in columns if name in _IMAGE_NAMES]
    if len(columns) > 1 and len(named) != 1:
        raise PipelineError(
            f"{path}: the columns {some(columns, 10)} may all hold the images; name one of them"
            " image, or remove the others"
        )
    return (named or columns)[0]


def _label_column(path: Path, schema: pa.Schema) -> str:
    columns = [name for name in schema.names if name in _LABEL_NAMES]
    if not columns:
        raise PipelineError(
            f"{path}: no label column, found {some(schema.names, 10)}; expected one of"
            f" {', '.join(_LABEL_NAMES)}"
        )
    if len(columns) > 1:
        raise PipelineError(
            f"{path}: the columns {some(columns)} may all hold the labels; keep one of them, or"
            f" rename the others, found {some(schema.names, 10)}"
        )
    return str(columns[0])


def _class_names(path: Path, schema: pa.Schema, label: str) -> tuple[str, ...] | None:
    """Return the names that the metadata gives to the numbers in the label column, if any."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return None
    try:
        names = json.loads(text)["info"]["features"][label]["names"]
    except ValueError as error:
        raise PipelineError(
            f"{path}: the metadata 'huggingface' is no JSON ({error}); get the file again, or"
            " remove the metadata"
        ) from error
    except (KeyError, TypeError):
        return None  # a label of another feature than ClassLabel
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names)


def _labels(
    path: Path, column: pa.ChunkedArray, classes: tuple[str, ...] | None
) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return the labels as text, null where there is none, and then the obstacle."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_integer(kind) or _is_text(kind)):
        raise PipelineError(
            f"{path}: the column of labels holds {kind}, expected integers or text; convert it"
        )
    if _is_text(kind) or classes is None:
        texts = text_column(pa.table({"label": column}), "label", f"{path}:")
        return texts, _unless(texts, "no label: the row has none")
    numbers = column.cast(kind)
    known = pc.and_(pc.greater_equal(numbers, 0), pc.less(numbers, len(classes)))
    texts = pc.take(pa.array(classes, pa.string()), pc.if_else(known, numbers, None))
    # Hubs write -1 where a label is kept back.
    reason = pc.binary_join_element_wise(
        f"no label: the {len(classes)} classes that the file names have no number ",
        pc.coalesce(numbers.cast(pa.string()), "at all"),
        "",
    )
    reason = pc.if_else(pc.is_null(numbers), "no label: the row has none", reason)
    return texts, _unless(texts, reason)


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _unless(found: pa.ChunkedArray, otherwise: Any) -> pa.ChunkedArray:
    return pc.if_else(pc.is_valid(found), pa.scalar(None, pa.string()), otherwise)


def _splits(path: Path, table: pa.Table) -> pa.ChunkedArray:
    """Return the column `split` in our own words, null where it gives none."""
    given = pc.utf8_lower(text_column(table, "split", f"{path}:"))
    for name in given.unique().drop_null().to_pylist():
        if name not in SPLITS:
            raise PipelineError(
                f"{path}: the column split holds {name}, expected train, val, test or nothing"
            )
    own = pc.index_in(given, pa.array(SPLITS, pa.string()))
    return pc.take(pa.array(SPLITS.values(), pa.string()), own)


def _split_of(name: str) -> str | None:
    """Return the split that a file is named after, or else a folder that it lies in."""
    path = PurePosixPath(name)
    for part in (path.stem, *(parent.name for parent in path.parents)):
        first_word = re.split(r"[^a-z]", part.lower())[0]
        if first_word in SPLITS:
            return SPLITS[first_word]
    return None


def _check_splits(parts: list[_Part]) -> None:
    without = [part.name for part in parts if not part.has_split]
    if without and len(without) < len(parts):
        named = [part.name for part in parts if part.has_split]
        raise PipelineError(
            f"Parquet files with a given split ({some(named)}) beside others without"
            f" ({some(without)}); name each after train, val or test, or none"
        )


def _check_classes(parts: list[_Part]) -> None:
    for part in parts:
        if part.classes != parts[0].classes:
            raise PipelineError(
                f"{parts[0].name} and {part.name} give different names to the numbers of their"
                f" classes: {some(parts[0].classes or ['none'], 3)}, and"
                f" {some(part.classes or ['none'], 3)}; keep files of one data set in a folder"
            )


class _Reader:
    """Reads image bytes from one file, batch by batch within a row group.

    Memory is that of one batch, however large the row groups are: some programs write all rows as
    one. Rows in ascending order are read once; going back reads the row group from its start.
    """

    def __init__(self, file: str) -> None:
        self._file = pq.ParquetFile(file, buffer_size=_BYTES_PER_READ)
        self._column = _image_column(Path(file), self._file.schema_arrow)
        groups = [self._file.metadata.row_group(i) for i in range(self._file.num_row_groups)]
        self._ends = np.cumsum([group.num_rows for group in groups], dtype=np.int64)
        bytes_per_row = sum(g.total_byte_size for g in groups) / max(
            self._file.metadata.num_rows, 1
        )
        self._rows_per_batch = int(np.clip(_BYTES_PER_BATCH / max(bytes_per_row, 1), 1, 256))
        self._group = -1
        self._start = 0  # row of the file with which the batch starts
        self._batch = pa.array([], pa.binary())
        self._following: Iterator[pa.RecordBatch] = iter(())

    def read(self, row: int) -> bytes:
        """Return the image bytes of a row, counted from 0; no bytes for a null."""
        if not self._start <= row < self._start + len(self._batch):
            self._seek(row)
        return self._batch[row - self._start].as_py() or b""

    def _seek(self, row: int) -> None:
        """Make the batch that holds `row` the current one."""
        group = int(np.searchsorted(self._ends, row, side="right"))
        if group == len(self._ends):
            raise UnusableImageError("unreadable: the file has fewer rows")
        if group != self._group or row < self._start:
            self._group = group
            self._start = int(self._ends[group - 1]) if group else 0
            self._batch = self._batch[:0]
            self._following = self._batches(group)
        while row >= self._start + len(self._batch):
            self._start += len(self._batch)
            batch = next(self._following, None)
            if batch is None:
                raise UnusableImageError("unreadable: the row group has fewer rows than it says")
            self._batch = self._column_of(batch)

    def _batches(self, group: int) -> Iterator[pa.RecordBatch]:
        return self._file.iter_batches(  # type: ignore[no-any-return]
            self._rows_per_batch, row_groups=[group], columns=[self._column], use_threads=False
        )

    def _column_of(self, batch: pa.RecordBatch) -> pa.Array:
        column = batch.column(self._column)
        return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


# The reader that each thread used last: the copies of a source that a worker process gets one
# after the other go on where the former was.
_OPEN = threading.local()


def _reader(file: str) -> _Reader:
    status = os.stat(file)  # noqa: PTH116 - once per image
    # A forked process must not share what its parent has open.
    key = (file, status.st_size, status.st_mtime_ns, os.getpid())
    if getattr(_OPEN, "reader", None) is None or _OPEN.key != key:
        _OPEN.reader, _OPEN.key = _Reader(file), key
    reader: _Reader = _OPEN.reader
    return reader
