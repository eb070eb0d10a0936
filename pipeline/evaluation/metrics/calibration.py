"""What a temperature makes of a model's confidence."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.metrics.intervals import figure
from pipeline.evaluation.metrics.measure import compare, measure
from pipeline.evaluation.metrics.posteriors import temper
from pipeline.evaluation.metrics.scores import Floats
from pipeline.evaluation.metrics.table import metrics_of
from pipeline.evaluation.metrics.temperature import Prior, Temperature, fit_temperature
from pipeline.params import Evaluate

Block = dict[str, Any]
# Class numbers and posteriors.
Images = tuple[npt.NDArray[np.integer], Floats]


def calibrate(
    validation: Images,
    test: Images,
    classes: Sequence[str],
    how: Evaluate,
    prior: Prior = "natural",
) -> Block:
    """Fit a temperature on validation images and judge it on test images.

    The intervals on the test images take the temperature as given.

    Args:
        validation: n class numbers and n x k posteriors.
        test: m class numbers and m x k posteriors.
        classes: k names.
        how: as in `measure`.
        prior: what the temperature is fitted for.

    Returns:
        {"images": n, "temperature": {"value": T, "ci95": [low, high]}, "test": {each metric of
        confidence: of the scaled posteriors}, "change": {the same: scaled less unscaled, paired}}.
    """
    return _judge(fit_temperature(*validation, prior), validation, test, classes, how)


def calibrate_at(
    temperature: float,
    validation: Images,
    test: Images,
    classes: Sequence[str],
    how: Evaluate,
    *,
    prior: Prior = "natural",
) -> Block:
    """Judge a temperature that a model has already, as `calibrate` does.

    Its interval is that of a fit on the validation images. A temperature of 1 was never fitted,
    its interval is a point.
    """
    found = Temperature(1.0, 1.0, 1.0, 0.0)
    if temperature != 1.0:
        found = replace(fit_temperature(*validation, prior), value=temperature)
    return _judge(found, validation, test, classes, how)


def _judge(
    found: Temperature, validation: Images, test: Images, classes: Sequence[str], how: Evaluate
) -> Block:
    labels, probabilities = test
    # Not even by rounding is anything else made of posteriors that are to stay.
    scaled = probabilities if found.value == 1.0 else temper(probabilities, found.value)
    after = measure(labels, scaled, classes, how)
    change = compare(labels, scaled, probabilities, how)
    names = [one.name for one in metrics_of(len(classes), how) if one.judges == "confidence"]
    return {
        "images": len(validation[0]),
        "temperature": figure(found.value, np.asarray([found.low, found.high])),
        "test": {name: after[name] for name in names},
        "change": {name: change[name] for name in names},
    }
