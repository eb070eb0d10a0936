"""Packed images: Arrow IPC shards that are memory-mapped, so that a batch is a gather.

A folder of shards holds `image` (the canonical `arrow.fixed_shape_tensor` of height x width x
channels, uint8 or uint16), `label` int32, `id` and `parent` (content hashes; parent is null for
originals) and `path`. What all rows share stands in the schema's metadata.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.errors import PipelineError

# A record batch is written as a whole: of large images few, so that memory stays flat.
_BYTES_PER_BATCH = 8 * 2**20
_ROWS_PER_BATCH = 256
_BYTES_PER_SHARD = 128 * 2**20
_METADATA_KEY = b"convoy"

# n x height x width x channels, uint8 or uint16.
Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class SetInfo:
    """What all rows of a set share.

    Attributes:
        classes: names in label order.
        preprocessing: how each image file became an array.
        dtype: 'uint8' or 'uint16'.
    """

    classes: tuple[str, ...]
    preprocessing: Preprocessing
    dtype: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels of one image."""
        return self.preprocessing.height, self.preprocessing.width, self.preprocessing.channels

    @property
    def bytes_per_image(self) -> int:
        """Size of one packed image."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    @property
    def rows_per_batch(self) -> int:
        """Rows of one record batch: 256, or as many as make 8 MiB, at least one."""
        return min(max(_BYTES_PER_BATCH // self.bytes_per_image, 1), _ROWS_PER_BATCH)

    @property
    def rows_per_shard(self) -> int:
        """Rows of one shard: as many as make 128 MiB, at least one."""
        return max(_BYTES_PER_SHARD // self.bytes_per_image, 1)

    def schema(self) -> pa.Schema:
        """Return the Arrow schema of the shards, with this object in its metadata."""
        tensor = pa.fixed_shape_tensor(pa.from_numpy_dtype(self.dtype), self.shape)
        fields = [
            pa.field("image", tensor, nullable=False),
            pa.field("label", pa.int32(), nullable=False),
            pa.field("id", pa.string(), nullable=False),
            pa.field("parent", pa.string()),
            pa.field("path", pa.string(), nullable=False),
        ]
        return pa.schema(fields, {_METADATA_KEY: json.dumps(asdict(self)).encode()})

    @classmethod
    def from_schema(cls, schema: pa.Schema) -> Self:
        """Read the object back from a shard's schema.

        Raises:
            PipelineError: the shard was not written by this version of Convoy.
        """
        try:
            raw = json.loads(schema.metadata[_METADATA_KEY])
            return cls(tuple(raw["classes"]), Preprocessing(**raw["preprocessing"]), raw["dtype"])
        except (KeyError, TypeError, ValueError) as error:
            raise PipelineError(
                "the packed images lack what this version of Convoy writes beside them"
                f" ({type(error).__name__}: {error}); run dvc repro to pack them again"
            ) from error


class ShardWriter:
    """Append rows to shards in `folder`; equal rows give equal files however they arrive.

    Rows are cut into record batches of `info.rows_per_batch` and shards of about
    `rows_per_shard`, so that neither memory nor the files depend on the size of the pieces
    written. A piece of just one batch is written without a copy.
    """

    def __init__(self, folder: Path, info: SetInfo, rows_per_shard: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._schema = info.schema()
        self._rows_per_batch = info.rows_per_batch
        self._rows_per_shard = rows_per_shard
        self._images: list[Pixels] = []
        self._columns: tuple[list[Any], ...] = ([], [], [], [])
        self._rows_in_shard = 0
        self._shards = 0
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    def write(
        self,
        images: Pixels,
        labels: Sequence[int],
        ids: Sequence[str],
        parents: Sequence[str | None],
        paths: Sequence[str],
    ) -> None:
        """Append rows; `images` is n x height x width x channels."""
        self._images.append(images)
        for column, values in zip(self._columns, (labels, ids, parents, paths), strict=True):
            column.extend(values)
        size = self._rows_per_batch
        if len(self._columns[0]) >= size:
            images = np.concatenate(self._images) if len(self._images) > 1 else images
            whole = len(images) // size * size
            for start in range(0, whole, size):
                self._write_batch(images[start : start + size])
            self._images = [images[whole:].copy()] if whole < len(images) else []

    def _write_batch(self, images: Pixels) -> None:
        """Write these images and as many of the pending rows as one record batch.

        Built from plain values each time: slices of Arrow columns carry validity bitmaps or not,
        depending on how they came about, and the files would differ.
        """
        tensor = self._schema.field("image").type
        flat = pa.array(np.ascontiguousarray(images).reshape(-1))
        storage = pa.FixedSizeListArray.from_arrays(flat, int(np.prod(tensor.shape)))
        rows = [column[: len(images)] for column in self._columns]
        batch = pa.RecordBatch.from_arrays(
            [
                pa.ExtensionArray.from_storage(tensor, storage),
                *(pa.array(values, self._schema.types[i]) for i, values in enumerate(rows, 1)),
            ],
            schema=self._schema,
        )
        for column in self._columns:
            del column[: len(images)]
        if self._writer is None:
            path = self._folder / f"shard-{self._shards:05d}.arrow"
            self._writer = pa.ipc.new_file(str(path), self._schema)
        self._writer.write_batch(batch)
        self._rows_in_shard += len(images)
        if self._rows_in_shard >= self._rows_per_shard:
            self._end_shard()

    def _end_shard(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer, self._rows_in_shard, self._shards = None, 0, self._shards + 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self._columns[0]:
            self._write_batch(np.concatenate(self._images))
        if kind is None and self._shards == 0 and self._writer is None:
            # An empty set still has a schema, from which the classes can be read.
            self._writer = pa.ipc.new_file(str(self._folder / "shard-00000.arrow"), self._schema)
        self._end_shard()


class ImageSet:
    """Read-only view of one or more shard folders as one set.

    Attributes:
        info: what all rows share.
        labels: int32, n.
        folder: the first one.
    """

    def __init__(self, info: SetInfo, tables: Sequence[pa.Table], folder: Path) -> None:
        self.info, self.folder = info, folder
        rows = pa.concat_tables(table.select(["label", "id", "parent", "path"]) for table in tables)
        self._rows = rows
        self.labels: npt.NDArray[np.int32] = rows["label"].to_numpy()
        self._blocks = [
            _as_pixels(chunk, info.shape) for table in tables for chunk in table["image"].chunks
        ]
        self._ends = np.cumsum([len(block) for block in self._blocks], dtype=np.int64)

    @classmethod
    def open(cls, *folders: Path) -> Self:
        """Map the shards of `folders`, in order, without reading the pixels.

        Raises:
            PipelineError: no shards there, a damaged shard, or folders that do not match.
        """
        tables = []
        for folder in folders:
            # Not by glob alone, which finds nothing in a folder that may not be read.
            listed = folder.iterdir() if folder.is_dir() else ()
            shards = sorted(path for path in listed if path.match("shard-*.arrow"))
            if not shards:
                raise PipelineError(f"no packed images in {folder}; run dvc repro to make them")
            tables += [_map_shard(shard) for shard in shards]
        infos = [SetInfo.from_schema(table.schema) for table in tables]
        for info in infos:
            if info != infos[0]:
                raise PipelineError(
                    f"{some_folders(folders)} were packed with different classes or sizes;"
                    " run dvc repro to pack them again"
                )
        return cls(infos[0], tables, folders[0])

    # As Python strings only when asked for: opening a set for its pixels alone costs nothing.
    @cached_property
    def ids(self) -> list[str]:
        """Content hashes, n."""
        return self._strings("id")

    @cached_property
    def parents(self) -> list[str | None]:
        """Content hashes of the originals, n; None for an original."""
        return self._strings("parent")

    @cached_property
    def paths(self) -> list[str]:
        """Paths of the files that the images come from, n."""
        return self._strings("path")

    def _strings(self, column: str) -> list[Any]:
        values: list[Any] = self._rows[column].to_pylist()
        return values

    def __len__(self) -> int:
        return len(self.labels)

    def class_counts(self) -> npt.NDArray[np.int64]:
        """Count the rows of each class, in label order."""
        return np.bincount(self.labels, minlength=len(self.info.classes))

    def gather(self, rows: npt.NDArray[np.integer]) -> Pixels:
        """Copy the images at `rows` (any order, repeats allowed): n x height x width x channels."""
        rows = np.asarray(rows, dtype=np.int64)
        if rows.size and not (rows.min() >= 0 and rows.max() < len(self)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of a set of {len(self)}")
        images = np.empty((len(rows), *self.info.shape), self.info.dtype)
        blocks = np.searchsorted(self._ends, rows, side="right")
        for block in np.unique(blocks):
            here = blocks == block
            start = self._ends[block] - len(self._blocks[block])
            images[here] = self._blocks[block][rows[here] - start]
        return images

    def batch_size(self, size: int) -> int:
        """Return how many images `batches` yields at a time."""
        return min(size, self.info.rows_per_batch)

    def batches(self, size: int) -> Iterator[Pixels]:
        """Yield all images in order, `size` at a time; fewer, where that many are large."""
        size = self.batch_size(size)
        for start in range(0, len(self), size):
            yield self.gather(np.arange(start, min(start + size, len(self))))


def open_once(folder: Path) -> ImageSet:
    """Open a set, or return the one that this process opened last, if it is the same.

    For work that comes in many pieces to several processes.
    """
    return _open_latest(folder.resolve(), folder.stat().st_mtime_ns if folder.exists() else 0)


@lru_cache(maxsize=1)
def _open_latest(folder: Path, _changed_ns: int) -> ImageSet:
    return ImageSet.open(folder)


def some_folders(folders: Sequence[Path]) -> str:
    """Name the folders in a message."""
    return " and ".join(str(folder) for folder in folders)


def _map_shard(path: Path) -> pa.Table:
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise PipelineError(
            f"{path} is not a whole Arrow file ({error}); delete it and run dvc repro"
        ) from error
    if _METADATA_KEY not in (table.schema.metadata or {}):
        raise PipelineError(f"{path} was not written by convoy pack; delete it and run dvc repro")
    return table


def _as_pixels(chunk: pa.FixedShapeTensorArray, shape: tuple[int, int, int]) -> Pixels:
    """View an Arrow chunk as n x height x width x channels without a copy."""
    storage = chunk.storage
    size = int(np.prod(shape))
    flat = storage.values.to_numpy(zero_copy_only=True)
    pixels: Pixels = flat[storage.offset * size : (storage.offset + len(storage)) * size].reshape(
        -1, *shape
    )
    return pixels
