"""What each further view gains when posteriors are averaged, and how many views to take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.metrics.definitions import Floats
from pipeline.evaluation.metrics.measure import compare, macro_f1_interval, measure
from pipeline.evaluation.metrics.posteriors import mean_posteriors
from pipeline.params import Evaluate

Block = dict[str, Any]


@dataclass(frozen=True)
class Ladder:
    """What a model says of one set of images with more and more views.

    Attributes:
        labels: n class numbers.
        plain: n x k posteriors of the images as they are.
        rungs: n x k posteriors each: of the first view, the mean of the first two, and so on.
    """

    labels: npt.NDArray[np.integer]
    plain: Floats
    rungs: Sequence[Floats]

    @classmethod
    def of(
        cls,
        labels: npt.NDArray[np.integer],
        plain: Floats,
        views: Sequence[Floats],
        mean: Literal["arithmetic", "geometric"],
    ) -> Self:
        """Average the first 1, 2, ... of `views`, n x k posteriors each."""
        rungs = [mean_posteriors(views[:count], mean) for count in range(1, len(views) + 1)]
        return cls(labels, plain, rungs)


@dataclass(frozen=True)
class Choice:
    """How many views are taken.

    Attributes:
        count: of views; 0 is the image as it is.
        reason: why, a clause.
    """

    count: int
    reason: str


def climb(validation: Ladder, test: Ladder, classes: Sequence[str], how: Evaluate) -> list[Block]:
    """Judge each rung on validation and test images.

    Args:
        validation: what is chosen by.
        test: the same rungs.
        classes: k names.
        how: seed, resamples and bins.

    Returns:
        one rung per view: {"validation": {"macro_f1": figure, "gain": metrics minus those of the
        images as they are with paired intervals, "mended": images that only the rung gets right,
        "spoiled": images that it alone gets wrong}, "test": metric block, and of the test images
        too "gain", "mended", "spoiled"}.
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
        for on_validation, on_test in zip(validation.rungs, test.rungs, strict=True)
    ]


def _gain(ladder: Ladder, rung: Floats, how: Evaluate) -> Block:
    difference = compare(ladder.labels, rung, ladder.plain, how)
    only = difference["mcnemar"]
    return {
        "gain": difference,
        "mended": only["only_first"],
        "spoiled": only["only_second"],
    }


def choose(validation: Ladder, climbed: Sequence[Mapping[str, Any]], how: Evaluate) -> Choice:
    """Take the fewest views whose gain in macro-F1 over the images as they are is beyond chance.

    That is where the paired interval of the gain on validation images lies above 0, at a
    confidence at which the intervals of all rungs together hold the truth in 95 % of validation
    sets (Bonferroni): of eight rungs one often looks good by chance. Where no rung does, the
    image is taken as it is.

    Args:
        validation: the rungs.
        climbed: what `climb` found.
        how: seed and resamples.
    """
    confidence = 1 - 0.05 / len(validation.rungs)
    level = f"{100 * confidence:.4g} %"
    tried = f"{len(validation.rungs)} rung{'s' if len(validation.rungs) > 1 else ''}"
    images = f"{len(validation.labels)} validation images"
    for count, rung in enumerate(validation.rungs, 1):
        gain = climbed[count - 1]["validation"]["gain"]["macro_f1"]
        if gain["ci95"][0] <= 0:
            continue  # a wider interval would do no better
        low, high = macro_f1_interval(validation.labels, rung, validation.plain, how, confidence)
        if low > 0:
            return Choice(
                count,
                f"the first of {tried} whose gain in macro-F1 on {images} is beyond chance,"
                f" {gain['value']:+.3f} ({level} interval {low:+.3f} to {high:+.3f})",
            )
    return Choice(
        0, f"of {tried} none has a gain in macro-F1 on {images} beyond chance ({level} intervals)"
    )
