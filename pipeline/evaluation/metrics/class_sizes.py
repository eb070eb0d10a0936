"""Recall by how many training images a class has: what a long tail costs its rare classes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.evaluation.metrics import intervals, scores
from pipeline.evaluation.metrics.scores import Answers, Ints

# Fewer training images than this make a class few, or else medium.
_FEW, _MEDIUM = 100, 1000


@dataclass(frozen=True)
class SizeGroup:
    """Classes of like size.

    Attributes:
        name: few (under 100 training images), medium (under 1,000) or many.
        classes: how many there are.
        fewest, most: training images of one of them.
        recall: mean over these classes, by model, with its 95 % interval: {"value": v, "ci95":
            [low, high]}.
    """

    name: str
    classes: int
    fewest: int
    most: int
    recall: dict[str, object]


def by_class_size(training: Ints, models: Mapping[str, Answers]) -> list[SizeGroup]:
    """Group the classes that have test images; where they are all of one group, there is none.

    Intervals are Wilson's, for the number of images of one class that inform as much as these.

    Args:
        training: k, training images of each class.
        models: by name, their answers on the same test images.
    """
    support = next(iter(models.values())).support
    groups = []
    for name, low, high in (
        ("many", _MEDIUM, np.inf),
        ("medium", _FEW, _MEDIUM),
        ("few", 0, _FEW),
    ):
        members = (training >= low) & (training < high) & (support > 0)
        if not members.any():
            continue
        trials = np.asarray(intervals.effective_images(support[members]))
        recalls = {
            model: float(scores.recall(answers.hits, support)[members].mean())
            for model, answers in models.items()
        }
        groups.append(
            SizeGroup(
                name,
                classes=int(members.sum()),
                fewest=int(training[members].min()),
                most=int(training[members].max()),
                recall={
                    model: intervals.figure(mean, intervals.wilson(mean * trials, trials))
                    for model, mean in recalls.items()
                },
            )
        )
    return groups if len(groups) > 1 else []
