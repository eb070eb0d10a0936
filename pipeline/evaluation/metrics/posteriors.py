"""What may be done to posteriors after a network gave them: averaging, and tempering."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from pipeline.evaluation.metrics.scores import SMALLEST_PROBABILITY, Floats


def mean_posteriors(
    posteriors: Floats | Sequence[Floats], mean: Literal["arithmetic", "geometric"]
) -> Floats:
    """Average several posteriors of the same images.

    The geometric mean is the exponential of the mean logarithm, divided by its sum over the
    classes: one opinion that a class is impossible all but rules it out. A 0 counts as the
    smallest normal double there, so that opinions which rule out every class together still give
    numbers.

    Args:
        posteriors: v x n x k, or v arrays of n x k; v is 1 or more.
        mean: which.

    Returns:
        n x k, rows sum to 1.
    """
    stacked = np.asarray(posteriors, np.float64)
    if len(stacked) == 1:
        return np.asarray(stacked[0])
    if mean == "arithmetic":
        return np.asarray(stacked.mean(axis=0))
    logarithms = np.log(np.maximum(stacked, np.finfo(np.float64).tiny)).mean(axis=0)
    return _normalized_exp(logarithms)


def temper(posteriors: Floats, temperature: float) -> Floats:
    """Return the posteriors (n x k) at a temperature; the order of the classes stays.

    Logits divided by T before the softmax (Guo et al. 2017, On Calibration of Modern Neural
    Networks, section 4.2) are posteriors to the power of 1 / T, divided by their sum.

    Args:
        posteriors: n x k; a 0 counts as the smallest that a double resolves at 1.
        temperature: T, above 0; above 1 flattens, below sharpens.
    """
    return _normalized_exp(np.log(np.clip(posteriors, SMALLEST_PROBABILITY, 1.0)) / temperature)


def _normalized_exp(logarithms: Floats) -> Floats:
    """Return the softmax over the last axis; prediction does not import scipy."""
    powers = np.exp(logarithms - logarithms.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
