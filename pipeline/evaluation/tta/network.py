"""Which of the two trained networks ships: fine-tuning may also make a model worse."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.evaluation.metrics.measure import compare
from pipeline.evaluation.metrics.table import Scored, metric_named
from pipeline.evaluation.reports.words import number

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


def choose_network(base: Scored, tuned: Scored, favoured: Name | None = None) -> NetworkChoice:
    """Take the network with the higher `how.metric` on validation images; of equals, the tuned one.

    A tie goes to the later training, which is what the recipe asks for. Both networks kept the
    epoch that was best on the same images, so that neither is flattered more than the other.

    A network that is `favoured`, because it is known to be the better one as a rule, ships unless
    the other is better beyond chance: the 95 % interval of the difference is on that side of 0.

    Args:
        base: the first training, on the images as they are.
        tuned: the fine-tuned one, likewise.
        favoured: the network to take unless these images speak clearly against it.
    """
    metric = metric_named(base.how.metric)
    of_base, of_tuned = metric.value(base), metric.value(tuned)
    compared = compare(tuned, base)
    difference = compared[metric.name]
    low, high = difference["ci95"]
    name: Name = "base" if of_base > of_tuned else "tuned"
    if favoured == "tuned":
        name = "base" if high < 0 else "tuned"
    elif favoured == "base":
        name = "tuned" if low > 0 else "base"
    count = len(base.answers.labels)
    if compared["same_answers"]:
        reason = (
            f"base and tuned give the same answers on all {count} validation images,"
            f" {metric.noun} {number(of_base)}"
        )
    else:
        interval = f"{number(low, sign=True)} to {number(high, sign=True)}"
        reason = (
            f"{metric.noun} on {count} validation images is {number(of_base)} for base and"
            f" {number(of_tuned)} for tuned, a difference of"
            f" {number(difference['value'], sign=True)} (95 % interval {interval})"
        )
    if name == favoured:
        reason += f"; of this recipe {name} ships unless it is worse beyond chance"
    elif of_base == of_tuned:
        reason += "; a tie goes to the later training"
    return NetworkChoice(name, of_base, of_tuned, difference, reason)
