import numpy as np
import pytest

from pipeline.evaluation.judging.looks import chance_of_a_miss, describe_looks


@pytest.mark.parametrize("count", [1, 2, 20])
def test_the_chance_of_a_miss_is_that_of_a_simulation(count):
    missed = np.random.default_rng(0).random((20_000, count)) < 0.05
    assert chance_of_a_miss(count) == pytest.approx(missed.any(axis=1).mean(), abs=0.01)


def test_how_often_test_images_were_read_in_words():
    assert describe_looks(0) == "No decision has read these test images."
    assert describe_looks(1).startswith("One decision has read these test images, the first:")
    many = describe_looks(12)
    assert many.startswith("12 decisions have read these test images: the chance that an interval")
    assert "has grown to up to 46 %" in many
