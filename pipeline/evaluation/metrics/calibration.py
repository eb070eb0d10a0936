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
from pipeline.evaluation.metrics.table import Scored, metrics_of
from pipeline.evaluation.metrics.temperature import Prior, Temperature, fit_temperature

Block = dict[str, Any]
# Class numbers and posteriors.
Images = tuple[npt.NDArray[np.integer], Floats]


def calibrate(
    validation: Images,
    posteriors: Floats,
    plain: Scored,
    classes: Sequence[str],
    prior: Prior = "natural",
) -> Block:
    """Fit a temperature on validation images and judge it on test images.

    The intervals on the test images take the temperature as given.

    Args:
        validation: n class numbers and n x k posteriors.
        posteriors: m x k, of the test images.
        plain: the same with their class numbers.
        classes: k names.
        prior: what the temperature is fitted for.

    Returns:
        {"images": n, "temperature": {"value": T, "ci95": [low, high]}, "test": {each metric of
        confidence: of the scaled posteriors}, "change": {the same: scaled less unscaled, paired}}.
    """
    found = fit_temperature(*validation, prior)
    scaled = Scored.of(plain.answers.labels, temper(posteriors, found.value), plain.how)
    return _judge(found, len(validation[0]), scaled, plain, classes)


def calibrate_at(
    temperature: float,
    validation: Images,
    scaled: Scored,
    plain: Scored,
    classes: Sequence[str],
    *,
    prior: Prior = "natural",
) -> Block:
    """Judge a temperature that a model has already, as `calibrate` does.

    Its interval is that of a fit on the validation images. A temperature of 1 was never fitted,
    its interval is a point.

    Args:
        temperature: of the model.
        validation: n class numbers and n x k posteriors, without the temperature.
        scaled: the model on the test images.
        plain: the same without its temperature.
        classes: k names.
        prior: what the temperature was fitted for.
    """
    found = Temperature(1.0, 1.0, 1.0, 0.0)
    if temperature != 1.0:
        found = replace(fit_temperature(*validation, prior), value=temperature)
    return _judge(found, len(validation[0]), scaled, plain, classes)


def _judge(
    found: Temperature, images: int, scaled: Scored, plain: Scored, classes: Sequence[str]
) -> Block:
    after, change = measure(scaled, classes), compare(scaled, plain)
    metrics = metrics_of(len(classes), plain.how)
    names = [one.name for one in metrics if one.judges == "confidence"]
    return {
        "images": images,
        "temperature": figure(found.value, np.asarray([found.low, found.high])),
        "test": {name: after[name] for name in names},
        "change": {name: change[name] for name in names},
    }
