import numpy as np
import pytest

from pipeline.evaluation.metrics.confusions import confusions
from pipeline.evaluation.metrics.intervals import wilson
from pipeline.evaluation.metrics.scores import answers


def test_mistakes_come_first_then_the_right_answers():
    labels = np.array([0, 0, 0, 1, 1, 1])
    predicted = np.array([0, 0, 1, 0, 0, 1])
    found = confusions(answers(labels, np.eye(2)[predicted]), ("ant", "bee"))
    assert [(c["true"], c["predicted"], c["images"]) for c in found] == [
        ("bee", "ant", 2),
        ("ant", "bee", 1),
        ("ant", "ant", 2),
        ("bee", "bee", 1),
    ]
    assert found[0]["share"]["value"] == pytest.approx(2 / 3)
    assert found[0]["share"]["ci95"] == pytest.approx(wilson(np.array(2), np.array(3)).tolist())
