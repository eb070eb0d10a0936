"""The column of a Parquet file that holds image bytes, and its rows."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.data.images.decode import UnusableImageError
from pipeline.errors import PipelineError, some

# The column is known by its type; among several, the one with one of these names is taken.
_IMAGE_NAMES = ("image", "img", "bytes")

_BYTES_PER_BATCH = 8 * 2**20
_BYTES_PER_READ = 2**20


def image_columns(schema: pa.Schema) -> list[str]:
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


def find_image_column(path: Path, schema: pa.Schema) -> str:
    """Return the column of image bytes.

    Raises:
        PipelineError: there is none, or several may be it.
    """
    columns = image_columns(schema)
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


def read_row(file: str, row: int) -> bytes:
    """Return the image bytes of a row, counted from 0; no bytes for a null.

    Raises:
        UnusableImageError: the file or its part cannot be read, or has no such row.
    """
    try:
        return _reader(file).read(row)
    except (OSError, pa.ArrowException) as error:
        _OPEN.reader = None
        raise UnusableImageError(f"unreadable: {error}") from error


class _Reader:
    """Reads image bytes from one file, batch by batch within a row group.

    Memory is that of one batch, however large the row groups are: some programs write all rows as
    one. Rows in ascending order are read once; going back reads the row group from its start.
    """

    def __init__(self, file: str) -> None:
        self._file = pq.ParquetFile(file, buffer_size=_BYTES_PER_READ)
        self._column = find_image_column(Path(file), self._file.schema_arrow)
        groups = [self._file.metadata.row_group(i) for i in range(self._file.num_row_groups)]
        self._ends = np.cumsum([group.num_rows for group in groups], dtype=np.int64)
        size = sum(group.total_byte_size for group in groups)
        bytes_per_row = size / max(self._file.metadata.num_rows, 1)
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
