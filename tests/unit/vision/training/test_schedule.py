import math

import pytest

from pipeline.vision.training.schedule import learning_rate


def rates(name, steps=10, warmup_steps=4, peak=0.8):
    return [
        learning_rate(step, steps=steps, warmup_steps=warmup_steps, peak=peak, name=name)
        for step in range(steps)
    ]


def test_warm_up_rises_in_equal_steps_to_the_peak():
    assert rates("constant")[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_constant_stays():
    assert rates("constant")[4:] == [0.8] * 6


def test_cosine_by_hand():
    after = [0.4 * (1 + math.cos(math.pi * k / 6)) for k in range(6)]
    assert rates("cosine")[4:] == pytest.approx(after)
    assert rates("cosine", warmup_steps=0)[0] == pytest.approx(0.8)
