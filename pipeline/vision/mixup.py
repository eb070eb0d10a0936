"""Mixup (Zhang et al. 2018) between pairs of different classes.

Pure: the caller draws partners and mixing weights from a generator that it was handed, so that
a test recomputes the result by hand and every worker computes its share of one global batch.
"""

import numpy as np
import numpy.typing as npt
from torch import Tensor

_TRIES = 32


def draw_partners(
    labels: npt.NDArray[np.integer], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw for each row of a batch another row of a different class.

    Returns:
        Positions in the batch; a row whose class is the only one left to draw from gets itself.
    """
    count = len(labels)
    partners = np.arange(count)
    alone = np.ones(count, dtype=bool)
    # Draws that hit the own class are drawn again; each round settles most of the rest.
    for _ in range(_TRIES):
        waiting = np.flatnonzero(alone)
        if not waiting.size:
            break
        drawn = rng.integers(0, count, waiting.size)
        differs = labels[drawn] != labels[waiting]
        partners[waiting[differs]] = drawn[differs]
        alone[waiting[differs]] = False
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
