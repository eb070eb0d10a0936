"""What each further view gains when posteriors are averaged, and how many views to take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.metrics.measure import compare, difference_interval, measure
from pipeline.evaluation.metrics.posteriors import mean_posteriors
from pipeline.evaluation.metrics.scores import Floats
from pipeline.evaluation.metrics.table import metric_named
from pipeline.params import Evaluate

Block = dict[str, Any]


@dataclass(frozen=True)
class ViewPosteriors:
    """What a model says of one set of images with more and more views.

    Attributes:
        labels: n class numbers.
        plain: n x k posteriors of the images as they are.
        steps: n x k posteriors each: of the first view, the mean of the first two, and so on.
    """

    labels: npt.NDArray[np.integer]
    plain: Floats
    steps: Sequence[Floats]

    @classmethod
    def of(
        cls,
        labels: npt.NDArray[np.integer],
        plain: Floats,
        views: Sequence[Floats],
        mean: Literal["arithmetic", "geometric"],
    ) -> Self:
        """Average the first 1, 2, ... of `views`, n x k posteriors each."""
        steps = [mean_posteriors(views[:count], mean) for count in range(1, len(views) + 1)]
        return cls(labels, plain, steps)


@dataclass(frozen=True)
class Choice:
    """How many views are taken.

    Attributes:
        count: of views; 0 is the image as it is.
        reason: why, a clause.
    """

    count: int
    reason: str


def search_views(
    validation: ViewPosteriors, test: ViewPosteriors, classes: Sequence[str], how: Evaluate
) -> list[Block]:
    """Judge each number of views on validation and test images.

    Args:
        validation: what views are chosen by.
        test: the same views of other images.
        classes: k names.
        how: seed, resamples and bins.

    Returns:
        one step per view: {"validation": {"macro_f1": figure, "gain": metrics minus those of the
        images as they are with paired intervals, "mended": images that only the averaged views
        get right, "spoiled": images that only they get wrong}, "test": metric block, and of the
        test images too "gain", "mended", "spoiled"}.
    """
    return [
        {
            "validation": {
                "macro_f1": measure(validation.labels, on_validation, classes, how)["macro_f1"],
                **_gain(validation, on_validation, how),
            },
            "test": measure(test.labels, on_test, classes, how),
            **_gain(test, on_test, how),
        }
        for on_validation, on_test in zip(validation.steps, test.steps, strict=True)
    ]


def _gain(given: ViewPosteriors, averaged: Floats, how: Evaluate) -> Block:
    difference = compare(given.labels, averaged, given.plain, how)
    only = difference["mcnemar"]
    return {
        "gain": difference,
        "mended": only["only_first"],
        "spoiled": only["only_second"],
    }


def choose_views(
    validation: ViewPosteriors, steps: Sequence[Mapping[str, Any]], how: Evaluate
) -> Choice:
    """Take the fewest views whose gain over the images as they are is beyond chance.

    The gain is that of `how.metric`.

    That is where the paired interval of the gain on validation images lies above 0, at a
    confidence at which the intervals of all steps together hold the truth in 95 % of validation
    sets (Bonferroni): of eight steps one often looks good by chance. Where no step does, the
    image is taken as it is.

    Args:
        validation: posteriors of each step.
        steps: what `search_views` found.
        how: the metric, seed and resamples.
    """
    title = metric_named(how.metric).noun
    tried = len(validation.steps)
    confidence = 1 - 0.05 / tried
    level = f"{100 * confidence:.4g} %"
    images = f"{len(validation.labels)} validation images"
    for count, averaged in enumerate(validation.steps, 1):
        gain = steps[count - 1]["validation"]["gain"][how.metric]
        if gain["ci95"][0] <= 0:
            continue  # a wider interval would do no better
        low, high = difference_interval(
            validation.labels, averaged, validation.plain, how, confidence
        )
        if low > 0:
            return Choice(
                count,
                f"the first of {tried} step{'s' if tried > 1 else ''} whose gain in {title} on"
                f" {images} is beyond chance, {gain['value']:+.3f} ({level} interval {low:+.3f} to"
                f" {high:+.3f})",
            )
    return Choice(
        0,
        f"of {tried} step{'s' if tried > 1 else ''} none has a gain in {title} on {images} beyond"
        f" chance ({level} intervals)",
    )
