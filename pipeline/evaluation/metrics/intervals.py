"""95 % intervals that stay honest on small sets and at 0 and 1.

A bootstrap of a perfect result resamples nothing but perfect results: its interval is a point.
Proportions therefore get closed forms; the bootstrap serves what has none, and where it can
collapse it is widened to a closed form for a set of the same weight.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit  # scipy.stats takes half a second more to import

from pipeline.evaluation.metrics.scores import Floats, Ints

_Z = float(ndtri(0.975))
# Indices held at once by the bootstrap: 16 MB.
_INDICES_AT_ONCE = 2_000_000


def figure(value: float, interval: Floats) -> dict[str, Any]:
    """Return a value with its interval as JSON holds them; NaN becomes None."""
    return {
        "value": None if np.isnan(value) else float(value),
        "ci95": [float(interval[0]), float(interval[1])],
    }


def wilson(successes: npt.NDArray[np.number], trials: npt.NDArray[np.number]) -> Floats:
    """Return Wilson's score interval of each proportion; [0, 1] where there was no trial.

    Source: Wilson 1927; recommended by Brown, Cai and DasGupta 2001 for small samples.

    Args:
        successes: any shape, 0 to `trials`.
        trials: the same shape.

    Returns:
        that shape x 2: low, high.
    """
    successes, trials = np.asarray(successes, np.float64), np.asarray(trials, np.float64)
    n = np.maximum(trials, 1.0)
    share = successes / n
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    arm = _Z / (1 + _Z**2 / n) * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    # The ends are exactly 0 and 1 there; rounding must not put the share outside.
    low = np.where(successes == 0, 0.0, centre - arm)
    high = np.where(successes == trials, 1.0, centre + arm)
    return np.stack([low, high], axis=-1)


def f1_interval(hits: Ints, support: Ints, predictions: Ints) -> Floats:
    """Return the interval of each F1: k x 2.

    TP / (TP + FP + FN) is a proportion, J; F1 = 2 J / (1 + J) grows with it, so that Wilson's
    interval of J carries over.
    """
    jaccard = wilson(hits, support + predictions - hits)
    return 2 * jaccard / (1 + jaccard)


def paired_proportions(
    only_first: Ints, only_second: Ints, trials: Ints, confidence: float = 0.95
) -> Floats:
    """Return the interval of p(first) - p(second) for pairs of outcomes: shape x 2.

    Source: Bonett and Price 2012, Adjusted Wald intervals for a difference of proportions in a
    paired design: one more pair of either disagreement keeps it from collapsing at 0.

    Args:
        only_first: pairs where only the first succeeded.
        only_second: pairs where only the second did.
        trials: all pairs.
        confidence: how often the interval holds the truth, in (0, 1).
    """
    z = float(ndtri((1 + confidence) / 2))
    first = (np.asarray(only_first, np.float64) + 1) / (np.asarray(trials) + 2)
    second = (np.asarray(only_second, np.float64) + 1) / (np.asarray(trials) + 2)
    difference = first - second
    arm = z * np.sqrt((first + second - difference**2) / (np.asarray(trials) + 2))
    return np.clip(np.stack([difference - arm, difference + arm], axis=-1), -1.0, 1.0)


def effective_images(support: Ints) -> float:
    """Return how many images of one class inform as much as these about a mean over classes.

    The mean of k proportions of `support` images each varies as one proportion of
    k^2 / sum(1 / support) images does, where the proportions are alike.
    """
    return float(len(support) ** 2 / (1.0 / support).sum())


def mean_interval(values: Floats, low: float, high: float) -> Floats:
    """Return the interval of the mean of n values, whose distribution may be skewed.

    Student's t statistic of skewed values leans to one side; Hall's cubic transformation takes
    the lean out, and its inverse puts it into the interval (Hall 1992, On the removal of skewness
    by transformation). Unlike a bootstrap it holds what it promises down to some twenty values.

    Args:
        values: n, at least one.
        low: the least that a value can be.
        high: the most; a single value says nothing, its interval is [low, high].
    """
    n, mean = len(values), values.mean()
    if n == 1:
        return np.asarray([low, high])
    spread = values.std()
    # Values that differ by rounding alone have no shape.
    if spread <= 1e-12 * max(abs(mean), 1.0):
        return np.asarray([mean, mean])
    lean = ((values - mean) ** 3).mean() / spread**3 / np.sqrt(n)
    ends = stdtrit(n - 1, [0.975, 0.025])
    if abs(lean) > 1e-6:
        ends = 3 / lean * (np.cbrt(1 + lean * (ends - lean / 6)) - 1)
    return np.asarray(np.clip(mean - ends * spread / np.sqrt(n - 1), low, high))


def widen(interval: Floats, value: float, arms: Floats) -> Floats:
    """Reach at least `arms`, the distances of a related interval's low and high, to both sides."""
    return np.asarray([min(interval[0], value + arms[0]), max(interval[1], value + arms[1])])


def percentile_interval(resampled: Floats, value: float, confidence: float = 0.95) -> Floats:
    """Return the middle part of a bootstrap distribution, stretched to hold `value`.

    Args:
        resampled: the distribution.
        value: the figure itself.
        confidence: how large that part is, in (0, 1).
    """
    low, high = np.quantile(resampled, [(1 - confidence) / 2, (1 + confidence) / 2])
    return np.asarray([min(low, value), max(high, value)])


def basic_interval(resampled: Floats, value: float) -> Floats:
    """Return the bootstrap interval mirrored at `value`, stretched to hold it.

    For an estimate that sampling noise pushes one way, as it does a sum of absolute values: the
    resampled values are off once more, to the same side (Davison and Hinkley 1997, section 5.2).
    """
    low, high = np.percentile(resampled, [2.5, 97.5])
    return np.asarray([min(2 * value - high, value), max(2 * value - low, value)])


def difference_of(first: tuple[float, Floats], second: tuple[float, Floats]) -> Floats:
    """Return the interval of first - second from an interval of each, taken as independent.

    Source: Zou and Donner 2008, Construction of confidence limits about effect measures: a general
    approach. Pairs that agree make the true interval narrower, hence this one safe.

    Args:
        first: a value and its interval, low and high.
        second: likewise.
    """
    (one, (low_one, high_one)), (two, (low_two, high_two)) = first, second
    value = one - two
    return np.asarray(
        [
            value - np.hypot(max(one - low_one, 0.0), max(high_two - two, 0.0)),
            value + np.hypot(max(high_one - one, 0.0), max(two - low_two, 0.0)),
        ]
    )


def stratified_resamples(
    strata: npt.NDArray[np.integer], resamples: int, seed: int
) -> Iterator[npt.NDArray[np.intp]]:
    """Yield blocks of bootstrap rows: r x n indices, `resamples` rows r in all.

    Each resample holds as many rows of each stratum as the original. The same seed and strata
    give the same rows, so that two models are compared on the same resamples. Memory is flat.

    Args:
        strata: n, such as the true class of each row.
        resamples: number of resamples.
        seed: of the draw.
    """
    generator = np.random.default_rng(seed)
    order = np.argsort(strata, kind="stable")
    _, starts, sizes = np.unique(strata[order], return_index=True, return_counts=True)
    start, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    at_once = max(_INDICES_AT_ONCE // len(strata), 1)
    for done in range(0, resamples, at_once):
        uniform = generator.random((min(at_once, resamples - done), len(strata)))
        # A double just below 1 times the size may round up to it.
        within = np.minimum((uniform * size).astype(np.intp), size - 1)
        yield order[start + within]
