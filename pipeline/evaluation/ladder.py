"""What each further view gains when posteriors are averaged."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.measure import compare, measure
from pipeline.evaluation.metrics import Floats
from pipeline.params import Evaluate


def climb(
    labels: npt.NDArray[np.integer],
    plain: Floats,
    views: Sequence[Floats],
    classes: Sequence[str],
    how: Evaluate,
) -> list[dict[str, Any]]:
    """Judge the mean posterior of the first 1, 2, ... views.

    Args:
        labels: n class numbers.
        plain: n x k posteriors of the images as they are.
        views: n x k posteriors of each view, in the order in which they are added.
        classes: k names.
        how: seed, resamples and bins.

    Returns:
        one rung per view: {"test": metric block, "gain": metrics minus those of `plain` with
        paired intervals, "mended": images that only the rung gets right, "spoiled": images that
        only `plain` does}.
    """
    plain_right = plain.argmax(axis=1) == labels
    total, rungs = np.zeros_like(plain), []
    for count, view in enumerate(views, 1):
        total += view
        mean = total / count
        right = mean.argmax(axis=1) == labels
        rungs.append(
            {
                "test": measure(labels, mean, classes, how),
                "gain": compare(labels, mean, plain, how),
                "mended": int((right & ~plain_right).sum()),
                "spoiled": int((~right & plain_right).sum()),
            }
        )
    return rungs
