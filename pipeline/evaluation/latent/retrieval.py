"""Nearest neighbours in the latent space, and how often they are of the same class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import PipelineError
from pipeline.evaluation.metrics.intervals import wilson
from pipeline.progress import watched

Vectors = npt.NDArray[np.float32]

_QUERIES_AT_ONCE = 512
_BASE_AT_ONCE = 16384  # similarities held at once: 32 MB


@dataclass(frozen=True)
class Neighbours:
    """The k nearest rows of a base for each of n queries, nearest first.

    Attributes:
        rows: n x k.
        similarity: n x k, cosines in [-1, 1].
    """

    rows: npt.NDArray[np.intp]
    similarity: Vectors


def nearest(base: Vectors, queries: Vectors, k: int) -> Neighbours:
    """Find the `k` rows of `base` with the largest cosine to each query; exact, flat memory.

    Of equals, the first row comes first. A vector of zeros is similar to nothing: cosine 0.

    Args:
        base: m x d.
        queries: n x d.
        k: at most m.

    Raises:
        PipelineError: k is more than m.
    """
    if k > len(base):
        raise PipelineError(
            f"embed.recall_at asks for {k} neighbours, the training set has {len(base)} images;"
            " lower embed.recall_at"
        )
    base, queries = _unit(base), _unit(queries)
    blocks = (
        queries[start : start + _QUERIES_AT_ONCE]
        for start in range(0, len(queries), _QUERIES_AT_ONCE)
    )
    found = [
        _nearest_of_block(base, block, k)
        for block in watched(blocks, len(queries), "nearest neighbours")
    ]
    return Neighbours(
        np.concatenate([np.empty((0, k), np.intp), *(rows for rows, _ in found)]),
        np.concatenate([np.empty((0, k), np.float32), *(cosine for _, cosine in found)]),
    )


def retrieval_block(
    neighbours: Neighbours,
    base_labels: npt.NDArray[np.integer],
    query_labels: npt.NDArray[np.integer],
    recall_at: Sequence[int],
) -> dict[str, Any]:
    """Judge the neighbours by their classes.

    recall_at_k is the share of queries with one of the query's class among k neighbours,
    precision_at_k the mean share of neighbours that are. Intervals are Wilson's over queries;
    for precision at k > 1 a wide bound, since shares vary less than yes and no do.

    Returns:
        {"recall_at_1": {"value": v, "ci95": [low, high]}, "precision_at_1": ..., ...}
    """
    same = base_labels[neighbours.rows] == query_labels[:, None]
    n = np.asarray(len(same))
    block = {}
    for k in recall_at:
        counts = {
            f"recall_at_{k}": same[:, :k].any(axis=1).sum(),
            f"precision_at_{k}": same[:, :k].mean(axis=1).sum(),
        }
        for name, successes in counts.items():
            block[name] = {
                "value": float(successes / n),
                "ci95": wilson(np.asarray(successes), n).tolist(),
            }
    return block


def spread_queries(labels: npt.NDArray[np.integer], limit: int, seed: int) -> npt.NDArray[np.intp]:
    """Draw at most `limit` rows, the same number of each class as far as there are any.

    Classes in order; a draw of some where there are more than `limit`.
    """
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(len(labels))
    classes = generator.permutation(np.unique(labels))
    of_class = {label: shuffled[labels[shuffled] == label] for label in classes}
    # The first of each class, then the second of each, and so on.
    turns = [(turn, i) for i, label in enumerate(classes) for turn in range(len(of_class[label]))]
    chosen = [of_class[classes[i]][turn] for turn, i in sorted(turns)[:limit]]
    return np.array(sorted(chosen, key=lambda row: (labels[row], row)), np.intp)


def _unit(vectors: Vectors) -> Vectors:
    """Scale each row to length 1; a row of zeros stays."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1), np.float32)


def _nearest_of_block(
    base: Vectors, queries: Vectors, k: int
) -> tuple[npt.NDArray[np.intp], Vectors]:
    """Search `base` in blocks and keep the best so far."""
    rows = np.empty((len(queries), 0), np.intp)
    cosine = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(base), _BASE_AT_ONCE):
        block = queries @ base[start : start + _BASE_AT_ONCE].T
        here = _largest(block, min(k, block.shape[1]))
        rows = np.concatenate([rows, here + start], axis=1)
        cosine = np.concatenate([cosine, np.take_along_axis(block, here, axis=1)], axis=1)
        best = np.lexsort((rows, -cosine))[:, :k]
        rows = np.take_along_axis(rows, best, axis=1)
        cosine = np.take_along_axis(cosine, best, axis=1)
    return rows, cosine


def _largest(values: Vectors, k: int) -> npt.NDArray[np.intp]:
    """Return the columns of the k largest values of each row, in no order; of equals, the first."""
    limit = np.partition(values, values.shape[1] - k, axis=1)[:, -k, None]
    above, equal = values > limit, values == limit
    room = k - above.sum(axis=1, keepdims=True)
    chosen = above | (equal & (np.cumsum(equal, axis=1) <= room))
    return np.nonzero(chosen)[1].reshape(len(values), k)
