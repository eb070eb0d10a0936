"""Mixup (Zhang et al. 2018) between pairs of different classes.

Pure: the caller draws partners and mixing weights from a generator that it was handed, so that
a test recomputes the result by hand and every worker computes its share of one global batch.
"""

import numpy as np
import numpy.typing as npt
from torch import Tensor


def draw_partners(
    labels: npt.NDArray[np.integer], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw for each row of a batch another row of a different class, each as likely.

    Returns:
        Positions in the batch; where there is only one class, each row's own.
    """
    count = len(labels)
    by_class = np.argsort(labels, kind="stable")
    first = np.searchsorted(labels[by_class], labels, side="left")
    size = np.searchsorted(labels[by_class], labels, side="right") - first
    if (size == count).all():
        return np.arange(count)
    # Rows in the order of their class; the own class is a gap that the draw steps over.
    drawn = rng.integers(0, count - size)
    partners: npt.NDArray[np.int64] = by_class[drawn + np.where(drawn >= first, size, 0)]
    return partners


def draw_weights(count: int, alpha: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Draw the weight of each row's own image, lambda ~ Beta(alpha, alpha), in [0, 1]."""
    return rng.beta(alpha, alpha, count).astype(np.float32)


def mix(values: Tensor, partners: Tensor, weights: Tensor) -> Tensor:
    """Return weights * values + (1 - weights) * partners.

    Args:
        values: n x ..., images or one-hot targets.
        partners: the same shape, row by row the partner of `values`.
        weights: n, in [0, 1].
    """
    weights = weights.reshape(-1, *[1] * (values.ndim - 1))
    return weights * values + (1 - weights) * partners
