"""Which images stand for all, where not all have room."""

import numpy as np
import numpy.typing as npt


def spread(labels: npt.NDArray[np.integer], seed: int) -> npt.NDArray[np.intp]:
    """Return all rows so that the first ones hold as many of each class as far as there are any.

    The first of each class, then the second of each, and so on; within a class at random.
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.bincount(labels)
    turns = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    return by_class[np.argsort(turns, kind="stable")]
