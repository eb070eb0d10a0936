"""What may be done to posteriors after a network gave them: averaging, and tempering."""

from collections.abc import Iterable
from typing import Literal

import numpy as np

from pipeline.evaluation.metrics.scores import SMALLEST_PROBABILITY, Floats

Mean = Literal["arithmetic", "geometric"]


class MeanPosteriors:
    """The mean of more and more posteriors of the same images, in the memory of one.

    The geometric mean is the exponential of the mean logarithm, divided by its sum over the
    classes: one opinion that a class is impossible all but rules it out. A 0 counts as the
    smallest normal double there, so that opinions which rule out every class together still give
    numbers.
    """

    def __init__(self, mean: Mean) -> None:
        """Start without posteriors; the first ones are their own mean, to the last bit."""
        self._mean, self._count = mean, 0
        self._sum: Floats = np.empty(0)

    def add(self, posteriors: Floats) -> None:
        """Take in n x k posteriors; each time of as many images and classes."""
        self._count += 1
        if self._count == 1:
            self._sum = np.array(posteriors, np.float64)
            return
        geometric = self._mean == "geometric"
        if geometric and self._count == 2:
            self._sum = _logarithm(self._sum)
        self._sum += _logarithm(posteriors) if geometric else posteriors

    def value(self) -> Floats:
        """Return the mean so far: n x k, rows sum to 1."""
        if self._count <= 1:
            return self._sum
        mean: Floats = self._sum / self._count
        return mean if self._mean == "arithmetic" else _normalized_exp(mean)


def mean_posteriors(posteriors: Iterable[Floats], mean: Mean) -> Floats:
    """Average one or more posteriors of the same images, n x k each; see `MeanPosteriors`."""
    running = MeanPosteriors(mean)
    for one in posteriors:
        running.add(one)
    return running.value()


def temper(posteriors: Floats, temperature: float) -> Floats:
    """Return the posteriors (n x k) at a temperature; the order of the classes stays.

    Logits divided by T before the softmax (Guo et al. 2017, On Calibration of Modern Neural
    Networks, section 4.2) are posteriors to the power of 1 / T, divided by their sum.

    Args:
        posteriors: n x k; a 0 counts as the smallest that a double resolves at 1.
        temperature: T, above 0; above 1 flattens, below sharpens.
    """
    return _normalized_exp(np.log(np.clip(posteriors, SMALLEST_PROBABILITY, 1.0)) / temperature)


def _logarithm(posteriors: Floats) -> Floats:
    return np.log(np.maximum(posteriors, np.finfo(np.float64).tiny))


def _normalized_exp(logarithms: Floats) -> Floats:
    """Return the softmax over the last axis; prediction does not import scipy."""
    powers: Floats = logarithms - logarithms.max(axis=-1, keepdims=True)
    np.exp(powers, out=powers)
    powers /= powers.sum(axis=-1, keepdims=True)
    return powers
