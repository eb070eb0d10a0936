"""Latent vectors on disk: as Parquet for people, as unit vectors for the search.

A folder holds <split>.parquet for train, val and test, and `unit.npy`: the vectors of all three, in
this order, scaled to length 1. That file is mapped, not read: float32, because a product with
float16 takes some ten times as long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import PipelineError
from pipeline.evaluation.latent.search import Vectors, unit
from pipeline.evaluation.metrics.rows import Rows, read_rows, write_rows
from pipeline.files import atomic_path, damaged, missing
from pipeline.parquet import read_table

SPLITS = ("train", "val", "test")
_UNIT = "unit.npy"
_BUNDLE = b"bundle"
_NEAREST = "nearest_training"
_ROWS_AT_ONCE = 16384


@dataclass(frozen=True)
class Embeddings(Rows):
    """Latent vectors of n images.

    Attributes:
        vectors: n x d.
        bundle: digest of the bundle whose network made them.
        nearest_training: n, each image's largest cosine to a training image; None where it was not
            searched for.
    """

    vectors: npt.NDArray[np.float32]
    bundle: str
    nearest_training: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Gallery:
    """What can be searched: the images of several splits, one after another.

    Attributes:
        rows: classes, ids, paths and labels of n images.
        splits: n names.
        within: n, the row of each image in its split.
        vectors: n x d, of length 1.
    """

    rows: Rows
    splits: Sequence[str]
    within: npt.NDArray[np.intp]
    vectors: Vectors


def write_embeddings(path: Path, embeddings: Embeddings) -> None:
    """Write the columns id, path, label (the class's name) and vectors (a list each).

    Where it is known, nearest_training is a column too. The digest of the bundle stands in the
    schema's metadata.
    """
    vectors = embeddings.vectors
    flat = pa.array(np.ascontiguousarray(vectors).ravel())
    columns = {"vectors": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])}
    if embeddings.nearest_training is not None:
        columns[_NEAREST] = pa.array(embeddings.nearest_training)
    write_rows(path, embeddings, columns, {_BUNDLE: embeddings.bundle.encode()})


def write_unit_vectors(folder: Path, embedded: Mapping[str, Embeddings]) -> Vectors:
    """Write the unit vectors of all splits, and return them as they are mapped."""
    parts = [embedded[split].vectors for split in SPLITS]
    shape = sum(map(len, parts)), parts[0].shape[1]
    with atomic_path(folder / _UNIT) as temporary:
        whole = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
        done = 0
        for part in parts:
            for start in range(0, len(part), _ROWS_AT_ONCE):
                block = unit(part[start : start + _ROWS_AT_ONCE])
                whole[done : done + len(block)] = block
                done += len(block)
        whole.flush()
    return _map_unit_vectors(folder)


def read_embeddings(path: Path) -> Embeddings:
    """Read what `write_embeddings` wrote.

    Raises:
        PipelineError: the file is missing or damaged, or is something else.
    """
    rows, table = read_rows(path, lambda _: ["vectors"])
    column = table["vectors"].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    vectors = flat.reshape(len(table), column.type.list_size)
    bundle = _bundle_of(path, table)
    return Embeddings(rows.classes, rows.ids, rows.paths, rows.labels, vectors, bundle)


def open_gallery(folder: Path, splits: Sequence[str], bundle: str) -> Gallery:
    """Open the vectors of some splits, without reading them.

    Args:
        folder: with the embeddings.
        splits: of `SPLITS`, the first ones in their order.
        bundle: digest of the bundle that must have made them.

    Raises:
        PipelineError: a file is missing or damaged, or another network made the vectors.
    """
    found, counts = [], []
    for split in SPLITS:
        path = folder / f"{split}.parquet"
        rows, table = read_rows(path, lambda _: ["label"])
        made_by = _bundle_of(path, table)
        if made_by != bundle:
            raise PipelineError(
                f"{path} was made by another model: expected vectors of the bundle {bundle[:12]},"
                f" found those of {made_by[:12]}; name that model with --model, or run dvc repro"
                " to embed the images with models/final"
            )
        found.append(rows)
        counts.append(len(rows.ids))
    vectors = _map_unit_vectors(folder)
    if len(vectors) != sum(counts):
        raise damaged(
            folder / _UNIT,
            f"expected {sum(counts)} vectors, as many as images, found {len(vectors)}",
        )
    return join(dict(zip(splits, found, strict=False)), vectors)


def join(found: Mapping[str, Rows], vectors: Vectors) -> Gallery:
    """Make a gallery of some splits.

    Args:
        found: rows by split, in the order of `SPLITS`.
        vectors: of these rows, one after another, of length 1; more may follow.
    """
    every = found.values()
    rows = Rows(
        next(iter(every)).classes,
        [one for rows in every for one in rows.ids],
        [one for rows in every for one in rows.paths],
        np.concatenate([rows.labels for rows in every]),
    )
    splits = [split for split, rows in found.items() for _ in rows.ids]
    within = np.concatenate([np.arange(len(rows.ids)) for rows in every])
    return Gallery(rows, splits, within, vectors[: len(splits)])


def stamp(folder: Path) -> str:
    """Return what changes when the unit vectors are written again, for names of files."""
    status = (folder / _UNIT).stat()
    return f"{status.st_mtime_ns:x}-{status.st_size:x}"


def read_nearest_training(folder: Path) -> npt.NDArray[np.float32]:
    """Read each test image's largest cosine to a training image.

    Raises:
        PipelineError: the file is missing or damaged.
    """
    found: npt.NDArray[np.float32] = read_table(folder / "test.parquet", [_NEAREST])[
        _NEAREST
    ].to_numpy()
    return found


def _bundle_of(path: Path, table: pa.Table) -> str:
    metadata = table.schema.metadata or {}
    if _BUNDLE not in metadata:
        raise PipelineError(f"{path} does not say which model made it; delete it and run dvc repro")
    return str(metadata[_BUNDLE].decode())


def _map_unit_vectors(folder: Path) -> Vectors:
    path = folder / _UNIT
    try:
        # Never with pickles, which np.load refuses to map in any case.
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise missing(path) from error
    except (OSError, ValueError, EOFError) as error:
        raise damaged(path, error) from error
    if found.ndim != 2 or found.dtype != np.float32:
        raise damaged(path, f"expected rows of float32, found {found.ndim} axes of {found.dtype}")
    vectors: Vectors = found
    return vectors
