import numpy as np
import pytest

from pipeline.evaluation.ladder import climb
from pipeline.params import Evaluate

HOW = Evaluate(
    seed=0, bootstrap_resamples=100, calibration_bins=5, top_k=(2,), suspicious_images=20
)


def test_rungs_by_hand():
    labels = np.array([0, 0, 1])
    plain = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
    # With the second view the second image is mended and the third spoiled.
    second = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])
    first, both = climb(labels, plain, [plain, second], ("ant", "bee"), HOW)
    assert (first["mended"], first["spoiled"]) == (0, 0)
    assert first["gain"]["accuracy"] == {"value": 0.0, "ci95": [0.0, 0.0]}
    assert (both["mended"], both["spoiled"]) == (1, 1)
    assert both["test"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert both["gain"]["accuracy"]["value"] == 0
    mean = (plain + second) / 2
    expected = -np.log(mean[np.arange(3), labels]).mean()
    assert both["test"]["nll"]["value"] == pytest.approx(expected)
