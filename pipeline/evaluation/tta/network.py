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


def choose_network(base: Scored, tuned: Scored, *, made: bool = False) -> NetworkChoice:
    """Take the network with the higher `how.metric` on validation images; of equals, the tuned one.

    A tie goes to the later training, which is what the recipe asks for. Both networks kept the
    epoch that was best on the same images, so that neither is flattered more than the other.

    A recipe that is `made` flatters the first: its penalty is the best of some on these images,
    where the second keeps its last epoch. And its second training is known to gain, as a rule. So
    there the first ships only if it is better beyond chance.

    Args:
        base: the first training, on the images as they are.
        tuned: the fine-tuned one, likewise.
        made: whether their recipes were made, see `recipe.name`.
    """
    metric = metric_named(base.how.metric)
    of_base, of_tuned = metric.value(base), metric.value(tuned)
    compared = compare(tuned, base)
    difference = compared[metric.name]
    shown = difference["ci95"][1] < 0 if made else of_base > of_tuned
    name: Name = "base" if shown else "tuned"
    count = len(base.answers.labels)
    if compared["same_answers"]:
        reason = (
            f"base and tuned give the same answers on all {count} validation images,"
            f" {metric.noun} {number(of_base)}"
        )
    else:
        low, high = (number(end, sign=True) for end in difference["ci95"])
        reason = (
            f"{metric.noun} on {count} validation images is {number(of_base)} for base and"
            f" {number(of_tuned)} for tuned, a difference of"
            f" {number(difference['value'], sign=True)} (95 % interval {low} to {high})"
        )
    if of_base > of_tuned and name == "tuned":
        reason += "; the later training ships unless it is worse beyond chance"
    if of_base == of_tuned:
        reason += "; a tie goes to the later training"
    return NetworkChoice(name, of_base, of_tuned, difference, reason)
