import numpy as np
import pytest

from pipeline.data.shards.statistics import channel_statistics
from tests.packed import write_set


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_mean_and_deviation_are_those_of_numpy(tmp_path, dtype, channels):
    rng = np.random.default_rng(0)
    top = np.iinfo(dtype).max
    pixels = rng.integers(0, top + 1, (700, 20, 24, channels)).astype(dtype)
    pixels[..., 0] = top - pixels[..., 0] // 4
    mean, deviation = channel_statistics(write_set(tmp_path, pixels, [0] * 700, ("a",)))
    scaled = pixels.astype(np.float64) / top
    assert mean == pytest.approx(scaled.mean(axis=(0, 1, 2)), abs=1e-6)
    assert deviation == pytest.approx(scaled.std(axis=(0, 1, 2)), abs=1e-6)


def test_a_channel_that_never_varies_is_left_as_it_is(tmp_path):
    pixels = np.full((3, 4, 4, 1), 255, np.uint8)
    assert channel_statistics(write_set(tmp_path, pixels, [0] * 3, ("a",))) == ((1.0,), (1.0,))
