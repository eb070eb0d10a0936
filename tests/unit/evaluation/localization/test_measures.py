import numpy as np
import pytest
from scipy.stats import binomtest

from pipeline.evaluation.localization.measures import (
    Located,
    choose_threshold,
    iou,
    measure,
)


def pixels(box):
    x, y, w, h = map(int, box)
    return {(column, row) for column in range(x, x + w) for row in range(y, y + h)}


def test_iou_is_that_of_the_pixels():
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 12, (300, 4)).astype(float) for _ in range(2))
    found = iou(first, second)
    for a, b, value in zip(first, second, found, strict=True):
        union = pixels(a) | pixels(b)
        expected = len(pixels(a) & pixels(b)) / len(union) if union else 0.0
        assert value == pytest.approx(expected)
    assert found.max() > 0.5


# Three thresholds: the first finds twice the width, the second a box that just reaches an IoU of a
# half, the third nothing. Of the last image none is near.
GIVEN = np.array([[0.0, 0.0, 10.0, 10.0]] * 4)
FOUND = np.array(
    [
        [[0, 0, 25, 10], [0, 0, 20, 10], [0, 0, 0, 0]],
        [[0, 0, 20, 10], [0, 0, 10, 10], [0, 0, 0, 0]],
        [[0, 0, 25, 10], [0, 0, 10, 5], [0, 0, 10, 10]],
        [[50, 0, 10, 10], [50, 0, 10, 10], [50, 0, 10, 10]],
    ],
    float,
)
PEAKS = np.array([[0.0, 0.0], [9.5, 9.5], [10.0, 5.0], [5.0, 12.0]])  # two inside
RIGHT = np.array([True, False, True, True])


def test_the_threshold_with_most_hits_is_chosen():
    located = Located(GIVEN, FOUND, PEAKS, RIGHT)
    assert choose_threshold(located) == 1
    # Of equally good ones the middle.
    flat = np.repeat(FOUND[:, 1:2], 5, axis=1)
    assert choose_threshold(Located(GIVEN, flat, PEAKS, RIGHT)) == 2


def test_figures_are_shares_of_images_with_wilsons_interval():
    located = Located(GIVEN, FOUND, PEAKS, RIGHT)
    hits = {
        0: {"box_accuracy": 1, "box_and_class_accuracy": 0},
        1: {"box_accuracy": 3, "box_and_class_accuracy": 2},
        2: {"box_accuracy": 1, "box_and_class_accuracy": 1},
    }
    for chosen, expected in hits.items():
        found = measure(located, chosen)
        for name, count in {**expected, "max_box_accuracy": 3, "pointing_accuracy": 2}.items():
            interval = binomtest(count, 4).proportion_ci(method="wilson")
            assert found[name]["value"] == count / 4
            assert found[name]["ci95"] == pytest.approx([interval.low, interval.high])
