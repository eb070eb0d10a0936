"""What a temperature makes of a model's confidence."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.intervals import figure
from pipeline.evaluation.measure import compare, measure
from pipeline.evaluation.metrics import Floats
from pipeline.evaluation.posteriors import temper
from pipeline.evaluation.temperature import fit_temperature
from pipeline.params import Evaluate

_METRICS = ("nll", "brier", "ece")


def calibrate(
    validation: tuple[npt.NDArray[np.integer], Floats],
    test: tuple[npt.NDArray[np.integer], Floats],
    classes: Sequence[str],
    how: Evaluate,
) -> tuple[dict[str, Any], Floats]:
    """Fit a temperature on validation images and judge it on test images.

    The intervals on the test images take the temperature as given.

    Args:
        validation: n class numbers and n x k posteriors.
        test: m class numbers and m x k posteriors.
        classes: k names.
        how: as in `measure`.

    Returns:
        {"images": n, "temperature": {"value": T, "ci95": [low, high]}, "test": {"nll", "brier",
        "ece": of the scaled posteriors}, "change": {the same: scaled less unscaled, paired}};
        and the scaled posteriors, m x k.
    """
    found = fit_temperature(*validation)
    labels, probabilities = test
    scaled = temper(probabilities, found.value)
    after = measure(labels, scaled, classes, how)
    change = compare(labels, scaled, probabilities, how)
    block = {
        "images": len(validation[0]),
        "temperature": figure(found.value, np.asarray([found.low, found.high])),
        "test": {name: after[name] for name in _METRICS},
        "change": {name: change[name] for name in _METRICS},
    }
    return block, scaled
