import numpy as np
import pytest

from pipeline.evaluation.plots.levels import eight_bits
from pipeline.evaluation.plots.located import overlaid


@pytest.mark.parametrize(
    ("dtype", "values", "drawn"),
    [
        (np.uint8, [0, 3, 200], [0, 3, 200]),
        (np.uint16, [0, 65535, 257], [0, 255, 1]),
        # 300 needs 9 bits: 511 is white.
        (np.uint16, [0, 300, 100], [0, 150, 50]),
        (np.uint16, [0, 0, 0], [0, 0, 0]),
    ],
)
def test_sixteen_bits_are_drawn_by_the_bits_that_are_used(dtype, values, drawn):
    assert eight_bits(np.array(values, dtype)).tolist() == drawn


def test_a_height_map_is_seen_beneath_its_map():
    heights = np.zeros((4, 4, 1), np.uint16)
    heights[1:3, 1:3] = 300
    seen = overlaid(heights, np.zeros((4, 4)))
    assert sorted(np.unique(seen)) == [0, 150]
