"""How many rows, trees and leaves a classifier may have: memory and time stay bounded.

Bounds count operations and bytes, not seconds, so that a machine's speed decides no result. On two
cores each stands for about a minute of training, and for a gigabyte.
"""

import math

import numpy as np
import numpy.typing as npt

# Features, as they are held: float32, once as they are and once standardised.
_VALUES = 2**26
# Products of rows, features and classes in one iteration of a logistic regression.
_PRODUCTS = 2e9
# Sums over classes for all trees. 300 trees for 20,000 images of 3,000 classes would take an hour.
_FOREST_SUMS = 1e11
# Each node of a tree holds a float64 per class: at 40,000 images of 100 classes, 8 GB in all.
_FOREST_BYTES = 2**30
# A support vector machine compares all pairs of rows, in each of its folds.
_SVM_ROWS = 4000
MOST_TREES, FEWEST_TREES, TREES_AT_ONCE = 300, 10, 10


def most_rows(classifier: str, features: int, classes: int) -> int:
    """Return how many rows a classifier may be trained on."""
    most = max(_VALUES // features, 1)
    if classifier == "svm":
        return min(most, _SVM_ROWS)
    if classifier == "logistic_regression":
        return min(most, max(int(_PRODUCTS / (features * classes)), 1))
    if classifier == "random_forest":
        sums = _FOREST_SUMS / (FEWEST_TREES * math.sqrt(features) * classes)
        # n log2(n) = sums, by the first steps of its fixed point.
        rows = max(sums, 2.0)
        for _ in range(8):
            rows = sums / math.log2(max(rows, 2.0))
        return min(most, max(int(rows), 1))
    return most


def capped(
    labels: npt.NDArray[np.integer], per_class: int, in_all: int, seed: int
) -> npt.NDArray[np.intp]:
    """Choose rows at random, at most `per_class` of each class and about `in_all`.

    Where there are too many, the largest classes give first. Each class keeps one row at least.

    Args:
        labels: class number of each row.
        per_class: most rows of one class.
        in_all: most rows, unless there are more classes.
        seed: of the choice within a class.

    Returns:
        Rows in ascending order.
    """
    counts = np.bincount(labels)
    limit = min(per_class, int(counts.max()))
    if np.minimum(counts, limit).sum() > in_all:
        # The largest limit that keeps within.
        low, high = 1, limit
        while high - low > 1:
            middle = (low + high) // 2
            if np.minimum(counts, middle).sum() > in_all:
                high = middle
            else:
                low = middle
        limit = low
    if limit >= counts.max():
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    place = np.arange(len(labels)) - (np.cumsum(counts) - counts)[labels[order]]
    return np.sort(order[place < limit])


def count_trees(images: int, features: int, classes: int) -> int:
    """Return how many trees a forest may have to be grown in minutes, 10 to 300."""
    # At each level of a tree all images are split at each place, by sums over all classes.
    sums = images * math.log2(max(images, 2)) * math.sqrt(features) * classes
    affordable = int(_FOREST_SUMS / sums) // TREES_AT_ONCE * TREES_AT_ONCE
    return min(max(affordable, FEWEST_TREES), MOST_TREES)


def most_leaves(images: int, classes: int, trees: int) -> int | None:
    """Return how many leaves a tree may have for the forest to stay small; None for any number."""
    # A tree of n leaves has 2n - 1 nodes.
    affordable = _FOREST_BYTES // (trees * 2 * classes * np.dtype(np.float64).itemsize)
    return None if images <= affordable else max(affordable, 2)
