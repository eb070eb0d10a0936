import numpy as np
import pytest

from pipeline.evaluation.metrics.calibration import calibrate, calibrate_at
from pipeline.evaluation.metrics.measure import compare, measure
from pipeline.evaluation.metrics.posteriors import temper
from pipeline.evaluation.metrics.table import Scored
from pipeline.evaluation.metrics.temperature import fit_temperature
from pipeline.params import Evaluate

HOW = Evaluate(
    seed=0,
    metric="macro_f1",
    bootstrap_resamples=100,
    calibration_bins=5,
    top_k=(),
    suspicious_images=20,
)
CLASSES = ("ant", "bee", "cat")


def world(seed, sharpness=2.0, count=90):
    """Draw labels and the posteriors of a model that is too sure of itself."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    logits = rng.normal(size=(count, 3)) + 1.5 * np.eye(3)[labels]
    odds = np.exp(sharpness * logits)
    return labels, odds / odds.sum(axis=1, keepdims=True)


def test_a_temperature_of_the_validation_images_is_judged_on_the_test_images():
    validation, (labels, posteriors) = world(1), world(2)
    found = fit_temperature(*validation)
    block = calibrate(validation, posteriors, Scored.of(labels, posteriors, HOW), CLASSES)
    assert block["images"] == 90
    assert block["temperature"] == {"value": found.value, "ci95": [found.low, found.high]}
    scaled = temper(posteriors, found.value)
    after = measure(Scored.of(labels, scaled, HOW), CLASSES)
    change = compare(Scored.of(labels, scaled, HOW), Scored.of(labels, posteriors, HOW))
    for name in ("nll", "brier", "ece"):
        assert block["test"][name] == after[name]
        assert block["change"][name] == change[name]
        assert block["change"][name]["value"] < 0


def test_a_temperature_that_a_model_has_already():
    validation, test = world(1), world(2)
    plain, scaled = (Scored.of(test[0], given, HOW) for given in (test[1], temper(test[1], 1.5)))
    block = calibrate_at(1.5, validation, scaled, plain, CLASSES)
    fitted = calibrate(validation, test[1], plain, CLASSES)["temperature"]
    assert block["temperature"] == {"value": 1.5, "ci95": fitted["ci95"]}
    expected = measure(Scored.of(test[0], temper(test[1], 1.5), HOW), CLASSES)
    assert block["test"]["nll"] == expected["nll"]


def test_a_model_without_a_temperature():
    plain = Scored.of(*world(2), HOW)
    block = calibrate_at(1.0, world(1), plain, plain, CLASSES)
    assert block["temperature"] == {"value": 1.0, "ci95": [1.0, 1.0]}
    for name, figure in block["change"].items():
        assert figure == {"value": 0.0, "ci95": [0.0, 0.0]}, name
    assert block["test"]["brier"]["value"] == pytest.approx(
        ((world(2)[1] - np.eye(3)[world(2)[0]]) ** 2).sum(axis=1).mean()
    )
