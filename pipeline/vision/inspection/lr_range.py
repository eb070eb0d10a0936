"""The learning-rate range test (Smith 2017): how the loss answers while the rate rises.

One short training, whose rate grows by the same factor at each step, shows from which rate on
the loss falls and at which it comes back up.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# The smoothed loss looks back over this share of the steps: more would hide where it turns.
_MEMORY = 0.1
# So many times its lowest value, the smoothed loss has left for good.
_DIVERGED = 4.0
# Where nothing is learned, the lowest average lies this many standard errors below the level in
# one test of twenty (simulated, 20 to 300 steps).
_CLEAR = 3.0
# Of a float32 loss: that of a dead network stands still but for this share of it.
_ROUNDING = 1e-6
# The loss is lowest shortly before it diverges: too close for a whole training.
_MARGIN = 10.0


@dataclass(frozen=True)
class Point:
    """One step.

    Attributes:
        rate: the learning rate.
        loss: of the step's batch.
        smoothed: exponential average of the losses up to here, corrected for its start at 0.
    """

    rate: float
    loss: float
    smoothed: float


def rising_rates(lowest: float, highest: float, steps: int) -> list[float]:
    """Return `steps` rates from `lowest` to `highest`, each the same multiple of the one before."""
    rates: list[float] = np.geomspace(lowest, highest, steps).tolist()
    return rates


def range_test(rates: Sequence[float], take_step: Callable[[float], float]) -> Iterator[Point]:
    """Take one step at each rate until the loss diverges.

    Args:
        rates: rising.
        take_step: trains on the next batch at this rate and returns its loss.

    Yields:
        A point per step; the last one is that of the last rate, or the first whose smoothed loss
        is 4 times the lowest, or the last one before a loss that is not finite.
    """
    keep = 1 - 1 / _memory(len(rates))
    average, lowest = 0.0, math.inf
    for step, rate in enumerate(rates, start=1):
        loss = take_step(rate)
        average = keep * average + (1 - keep) * loss
        smoothed = average / (1 - keep**step)
        if not math.isfinite(smoothed):
            return
        yield Point(rate, loss, smoothed)
        lowest = min(lowest, smoothed)
        if smoothed > _DIVERGED * lowest:
            return


def lowest_point(points: Sequence[Point], steps: int) -> Point | None:
    """Return the point with the lowest smoothed loss, or None if the loss does not fall clearly.

    It falls from the mean loss over the first half of the way. That is clear if it is more than
    3 standard errors of the difference. The noise of one batch's loss is taken from differences
    of neighbours (von Neumann 1941), what the average leaves of it from its memory (Roberts 1959).

    Args:
        points: of a range test.
        steps: that the test would have had without divergence.
    """
    memory = _memory(steps)
    settled = points[memory:]  # before, the average is one of few losses
    if not settled:
        return None
    lowest = min(settled, key=lambda point: point.smoothed)
    losses = np.array([point.loss for point in points[: points.index(lowest) + 1]])
    early = losses[: len(losses) // 2]
    noise = np.square(np.diff(losses)).mean() / 2
    keep = 1 - 1 / memory
    error = math.sqrt(noise * ((1 - keep) / (1 + keep) + 1 / len(early)))
    level = early.mean()
    clear = max(_CLEAR * error, _ROUNDING * level)
    return lowest if level - lowest.smoothed > clear else None


def suggest(lowest: Point) -> float:
    """Return a cautious peak rate for a training: a tenth of the one at the lowest loss.

    Of the other usual rules, where the loss falls fastest is often a matter of noise when there is
    little left to learn, and the middle of its longest fall depends on the lowest rate tried.
    """
    return lowest.rate / _MARGIN


def _memory(steps: int) -> int:
    return max(round(steps * _MEMORY), 1)
