"""Which of the two trained networks ships: fine-tuning may also make a model worse."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.metrics.measure import compare
from pipeline.evaluation.metrics.scores import Floats
from pipeline.evaluation.metrics.table import Scored, metric_named
from pipeline.params import Evaluate

Name = Literal["base", "tuned"]


@dataclass(frozen=True)
class NetworkChoice:
    """The network that ships.

    Attributes:
        name: 'base' or 'tuned'.
        base, tuned: their values by the metric, on validation images.
        difference: {"value": tuned - base, "ci95": [low, high]}, paired.
        reason: why, a clause.
    """

    name: Name
    base: float
    tuned: float
    difference: Mapping[str, Any]
    reason: str


def choose_network(
    labels: npt.NDArray[np.integer], base: Floats, tuned: Floats, how: Evaluate
) -> NetworkChoice:
    """Take the network with the higher `how.metric` on validation images; of equals, the tuned one.

    A tie goes to the later training, which is what the recipe asks for. Both networks kept the
    epoch that was best on the same images, so that neither is flattered more than the other.

    Args:
        labels: n class numbers.
        base: n x k posteriors of the images as they are.
        tuned: n x k posteriors, likewise.
        how: the metric, seed and resamples.
    """
    metric = metric_named(how.metric)
    of_base, of_tuned = (metric.value(Scored(labels, given, how)) for given in (base, tuned))
    difference = compare(labels, tuned, base, how)[metric.name]
    low, high = difference["ci95"]
    name: Name = "base" if of_base > of_tuned else "tuned"
    reason = (
        f"{metric.noun} on {len(labels)} validation images is {of_base:.3f} for base and"
        f" {of_tuned:.3f} for tuned, a difference of {difference['value']:+.3f} (95 % interval"
        f" {low:+.3f} to {high:+.3f})"
    )
    if of_base == of_tuned:
        reason += "; a tie goes to the later training"
    return NetworkChoice(name, of_base, of_tuned, difference, reason)
