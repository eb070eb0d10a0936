"""Exact nearest neighbours by cosine: blocked products in all cores, in flat memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipeline.errors import PipelineError
from pipeline.parallel import map_chunks, usable_cores

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]

_QUERIES_AT_ONCE = 512
_BASE_AT_ONCE = 16384  # similarities that each core holds at once: 32 MB
# Multiplications of a search, some 30 ms; below, to wake other threads may take longer.
_WORTH_THREADS = 10**8
_FEW_QUERIES = 32  # up to so many, the cores share the base; of more, the queries
# Of a block, so many candidates per neighbour are sorted; of more, the k largest are found first.
_CANDIDATES = 4


@dataclass(frozen=True)
class Neighbours:
    """The k nearest rows of a base for each of n queries, nearest first.

    Attributes:
        rows: n x k.
        similarity: n x k, cosines in [-1, 1].
    """

    rows: Rows
    similarity: Vectors


def unit(vectors: npt.NDArray[np.floating]) -> Vectors:
    """Scale each row to length 1; a row of zeros stays."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), np.float32)


def nearest(
    base: Vectors, queries: Vectors, k: int, label: str = "nearest neighbours"
) -> Neighbours:
    """Find the `k` rows of `base` with the largest cosine to each query.

    Of equals, the first row comes first. A vector of zeros is similar to nothing: cosine 0.

    Args:
        base: m x d, of length 1 each; may be memory-mapped.
        queries: n x d, likewise.
        k: at most m.
        label: what the progress bar says.

    Raises:
        PipelineError: k is more than m.
    """
    if k > len(base):
        raise PipelineError(f"expected at most {len(base)} neighbours, as many as images, got {k}")
    n, cores = len(queries), usable_cores()
    shared = base if n <= _FEW_QUERIES else queries
    most = _BASE_AT_ONCE if n <= _FEW_QUERIES else _QUERIES_AT_ONCE
    # Each core multiplies by itself: a library that spreads one narrow product is slower.
    with threadpool_limits(1, "blas"):
        if n * base.size <= _WORTH_THREADS:
            return Neighbours(*_search(base, queries, k))
        found = list(
            map_chunks(
                partial(_of_base if n <= _FEW_QUERIES else _of_queries, base, queries, k),
                range(len(shared)),
                chunk=max(min(most, -(-len(shared) // cores)), 1),
                label=label,
                workers=cores,
                threads=True,
            )
        )
    if n > _FEW_QUERIES:
        return Neighbours(*(np.concatenate(part) for part in zip(*found, strict=True)))
    rows, similarity = (np.concatenate(part, axis=1) for part in zip(*found, strict=True))
    return Neighbours(*_best(rows, similarity, k))


def nearest_others(
    vectors: Vectors, rows: Rows, k: int, label: str = "nearest neighbours"
) -> Neighbours:
    """Find the `k` nearest rows to each of some rows, itself left out.

    Args:
        vectors: m x d, of length 1 each.
        rows: n of them, the queries.
        k: less than m.
        label: what the progress bar says.

    Raises:
        PipelineError: k is not less than m.
    """
    found = nearest(vectors, vectors[rows], k + 1, label)
    kept = found.rows != rows[:, None]
    # Among more than k equals a row may miss itself: then the last one goes.
    kept[kept.all(axis=1), -1] = False
    shape = len(rows), k
    return Neighbours(found.rows[kept].reshape(shape), found.similarity[kept].reshape(shape))


def _of_queries(
    base: Vectors, queries: Vectors, k: int, piece: Sequence[int]
) -> tuple[Rows, Vectors]:
    """Search the whole base for some of the queries."""
    return _search(base, queries[piece[0] : piece[-1] + 1], k)


def _of_base(base: Vectors, queries: Vectors, k: int, piece: Sequence[int]) -> tuple[Rows, Vectors]:
    """Search a part of the base for all queries."""
    rows, similarity = _search(base[piece[0] : piece[-1] + 1], queries, min(k, len(piece)))
    return rows + piece[0], similarity


def _search(base: Vectors, queries: Vectors, k: int) -> tuple[Rows, Vectors]:
    """Go through the base in blocks and keep the best so far."""
    rows = np.empty((len(queries), 0), np.intp)
    similarity = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(base), _BASE_AT_ONCE):
        block = queries @ base[start : start + _BASE_AT_ONCE].T
        # Of equals the first row stays, so that later ones must be above the last of the best.
        full = rows.shape[1] == k
        columns, found = _above(block, similarity[:, -1:] if full else None, k)
        rows = np.concatenate([rows, columns + start], axis=1)
        similarity = np.concatenate([similarity, found], axis=1)
        rows, similarity = _best(rows, similarity, k)
    return rows, similarity


def _above(block: Vectors, limit: Vectors | None, k: int) -> tuple[Rows, Vectors]:
    """Return what of each row is above its limit, at most the k largest, and their equals.

    Rows with fewer candidates than others are filled up with minus infinity.
    """
    above = np.ones(block.shape, np.bool_) if limit is None else block > limit
    if np.count_nonzero(above) > _CANDIDATES * k * len(block) and block.shape[1] > k:
        last = block.shape[1] - k
        above &= block >= np.partition(block, last, axis=1)[:, last, None]
    counts = np.count_nonzero(above, axis=1)
    row, column = np.divmod(np.flatnonzero(above), block.shape[1])
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    columns = np.zeros((len(block), counts.max(initial=0)), np.intp)
    similarity = np.full(columns.shape, -np.inf, np.float32)
    columns[row, place] = column
    similarity[row, place] = block[row, column]
    return columns, similarity


def _best(rows: Rows, similarity: Vectors, k: int) -> tuple[Rows, Vectors]:
    """Sort by similarity and keep k; equals stay in their order, which is that of the base."""
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rows, order, axis=1), np.take_along_axis(similarity, order, axis=1)
