"""Near duplicates: images that lie improbably close to each other in the latent space.

No cosine is close in itself: a network draws images of one class together, of some classes more
than of others. What is close shows beside the distances to the next neighbours. Where images lie
evenly around one of them, the volumes of the balls that reach to its 1st, 2nd, ... k-th neighbour
grow like the arrival times of a Poisson process, whatever the density (Facco, d'Errico, Rodriguez
and Laio 2017, Estimating the intrinsic dimension of datasets by a minimal neighborhood
information). So among the k - 1 neighbours before the k-th, the nearest is closer than r with
probability 1 - (1 - (r / d_k)^D)^(k - 1), where D is the dimension that the images fill. D is
estimated from the images themselves: the ratio of the second to the first distance is above x with
probability x^-D, and its median gives D, which half of the images being copies would not spoil.

A pair is a near duplicate where that probability is below 0.05 / n: of n images without near
duplicates, one pair at all would be found in 5 % of the sets.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.evaluation.latent.search import Neighbours, Rows, Vectors
from pipeline.evaluation.metrics.scores import Floats

NEIGHBOURS = 10  # k
LEVEL = 0.05
_FEWEST_IMAGES = 20  # fewer do not show how they are spread
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Duplicates:
    """Pairs of near duplicates, and those that come next.

    Attributes:
        dimension: D; NaN where it cannot be told.
        first: m rows; each pair once, the least probable first.
        second: m rows.
        similarity: m, cosines.
        probability: m, of so close a neighbour by chance.
        found: how many of the pairs are near duplicates; the others only come next.
        groups: rows that are near duplicates of each other, directly or by others between them;
            the largest groups first.
    """

    dimension: float
    first: Rows
    second: Rows
    similarity: Vectors
    probability: Floats
    found: int
    groups: list[Rows]


def find_duplicates(
    vectors: Vectors, labels: npt.NDArray[np.integer], rows: Rows, neighbours: Neighbours
) -> Duplicates:
    """Find near duplicates of some rows among all.

    A class of few images is a cluster of few. So that its edge is not taken for the edge of a group
    of copies, k is less than the number of images of both classes of a pair.

    Args:
        vectors: m x d, of length 1 each.
        labels: m class numbers.
        rows: n of them.
        neighbours: the `NEIGHBOURS` nearest others of these rows; fewer, where there are fewer.
    """
    distances = _distances(vectors, rows, neighbours.rows)
    ranked = np.sort(distances, axis=1)  # rounding may have put equal cosines in another order
    dimension = intrinsic_dimension(ranked)
    n, k = distances.shape
    if n < _FEWEST_IMAGES or np.isnan(dimension):
        none, no_rows = np.empty(0), np.empty(0, np.intp)
        return Duplicates(dimension, no_rows, no_rows, none.astype(np.float32), none, 0, [])
    sizes = np.bincount(labels)[labels]
    smaller = np.minimum(sizes[rows], sizes[neighbours.rows[:, 0]])
    last = np.minimum(k, smaller - 1)  # which neighbour is the k-th
    reach = np.take_along_axis(ranked, np.maximum(last, 1)[:, None] - 1, axis=1)
    ratio = np.divide(distances, reach, out=np.ones_like(distances), where=reach > 0)
    with np.errstate(divide="ignore"):  # of the k-th itself, whose probability is 1
        outside = np.log1p(-(np.minimum(ratio, 1) ** dimension))
    probability = -np.expm1(np.maximum(last - 1, 1)[:, None] * outside)
    probability[last < 2] = 1  # in a class of one or two images, nothing shows what is close
    probability[distances == 0] = 0
    # Each pair once, by the smaller of its two probabilities.
    pairs = np.sort(np.stack([np.repeat(rows, k), neighbours.rows.ravel()], axis=1), axis=1)
    order = np.lexsort((pairs[:, 1], pairs[:, 0], probability.ravel()))
    _, once = np.unique(pairs[order], axis=0, return_index=True)
    chosen = order[np.sort(once)]
    pairs, sure = pairs[chosen], probability.ravel()[chosen]
    found = int(np.searchsorted(sure, LEVEL / n))
    return Duplicates(
        dimension,
        pairs[:, 0],
        pairs[:, 1],
        neighbours.similarity.ravel()[chosen],
        sure,
        found,
        _groups(pairs[:found], len(vectors)),
    )


def intrinsic_dimension(distances: Floats) -> float:
    """Estimate the dimension that points fill from the distances to their neighbours.

    Args:
        distances: n x k, the nearest first; k of at least 2.

    Returns:
        the dimension; NaN where most points have a copy, or two at one distance.
    """
    if distances.shape[1] < 2:
        return float("nan")
    first, second = distances[:, 0], distances[:, 1]
    ratio = np.divide(second, first, out=np.full(len(first), np.inf), where=first > 0)
    median = float(np.median(ratio)) if len(ratio) else 1.0
    return float(np.log(2) / np.log(median)) if 1 < median < np.inf else float("nan")


def _distances(vectors: Vectors, rows: Rows, others: Rows) -> Floats:
    """Return the distances from each row to others: n x k.

    By the differences themselves: of a cosine near 1, rounding leaves little.
    """
    found = np.empty(others.shape)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        here = slice(start, start + _ROWS_AT_ONCE)
        apart = vectors[others[here]] - vectors[rows[here], None]
        found[here] = np.linalg.norm(apart, axis=2)
    return found


def _groups(pairs: npt.NDArray[np.intp], rows: int) -> list[Rows]:
    """Join pairs to groups."""
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(rows, rows))
    _, member = connected_components(graph, directed=False)
    inside = np.unique(pairs)
    order = inside[np.argsort(member[inside], kind="stable")]
    _, starts = np.unique(member[order], return_index=True)
    groups = np.split(order, starts[1:]) if len(order) else []
    return sorted(groups, key=lambda group: (-len(group), group[0]))
