"""Whether the nearest images are of the query's class: recall, precision, average precision."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipeline.evaluation.latent.search import Neighbours, Vectors
from pipeline.evaluation.metrics.intervals import mean_interval, paired_proportions, wilson
from pipeline.evaluation.metrics.scores import Floats
from pipeline.parallel import map_chunks, usable_cores

Labels = npt.NDArray[np.integer]

_SIMILARITIES_AT_ONCE = 2**23  # of each core: 32 MB, and as much again to sort them


def retrieval_block(
    neighbours: Neighbours,
    base_labels: Labels,
    query_labels: Labels,
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


def average_precisions(
    base: Vectors, base_labels: Labels, queries: Vectors, query_labels: Labels
) -> Floats:
    """Return the average precision of each query's ranking of the whole base by cosine.

    It is the mean, over all images of the query's class, of the precision among the images that are
    at least as similar as this one (Manning, Raghavan and Schütze 2008, Introduction to Information
    Retrieval, section 8.4). Equals have one rank, the last, so that it equals scikit-learn's
    average_precision_score. The mean over queries is the mean average precision.

    Args:
        base: m x d, of length 1 each.
        base_labels: m class numbers.
        queries: n x d, likewise.
        query_labels: n class numbers.

    Returns:
        n values in (0, 1]; NaN where the base has no image of the class.
    """
    members = {label: np.flatnonzero(base_labels == label) for label in np.unique(query_labels)}
    with threadpool_limits(1, "blas"):
        pieces = map_chunks(
            partial(_average_precisions, base, members, queries, query_labels),
            range(len(queries)),
            chunk=max(_SIMILARITIES_AT_ONCE // len(base), 1),
            label="average precision",
            workers=usable_cores(),
            threads=True,
        )
        return np.concatenate([np.empty(0), *pieces])


def mean_figure(values: Floats, low: float = 0.0) -> dict[str, Any]:
    """Return the mean of a value of each query, with its 95 % interval over queries.

    The interval is Hall's (`mean_interval`). Where all values are equal it would be a point: then
    it is that of a proportion of as many yes and no, which vary more than any such values.

    Args:
        values: n in [`low`, 1]; of none, the mean is None.
        low: 0, or -1 for differences of pairs.
    """
    if not len(values):
        return {"value": None, "ci95": [low, 1.0]}
    n, mean = np.asarray(len(values)), float(values.mean())
    interval = mean_interval(values, low, 1.0)
    if interval[0] == interval[1]:
        none = np.asarray(0)
        interval = wilson(mean * n, n) if low == 0 else paired_proportions(none, none, n) + mean
        interval = np.clip(interval, low, 1.0)
    return {"value": mean, "ci95": interval.tolist()}


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


def _average_precisions(
    base: Vectors,
    members: dict[int, npt.NDArray[np.intp]],
    queries: Vectors,
    query_labels: Labels,
    piece: Sequence[int],
) -> Floats:
    """Return the average precision of some of the queries."""
    similarity = queries[piece[0] : piece[-1] + 1] @ base.T
    found = np.full(len(piece), np.nan)
    for place, row in enumerate(piece):
        own = np.sort(similarity[place, members[query_labels[row]]])
        if len(own):
            # How many images of the class, and of all, are at least as similar.
            of_class = len(own) - np.searchsorted(own, own)
            of_all = len(base) - np.searchsorted(np.sort(similarity[place]), own)
            found[place] = (of_class / of_all).mean()
    return found
