import numpy as np
import pytest
from PIL import Image

from pipeline.data.images.decode import decode
from pipeline.data.parcels import CLASSES, MM_PER_PX, SIDE, draw_parcel
from pipeline.params import Sample
from pipeline.stages.sample import _parcels


def draw(label, number):
    return draw_parcel(label, np.random.default_rng([0, label, number]))


def maps(label, count=60):
    return np.stack([draw(label, number) for number in range(count)]).astype(float)


@pytest.mark.parametrize("label", range(3))
def test_a_map_is_16_bits_in_view_and_the_same_again(label):
    found = draw(label, 5)
    assert (found.shape, found.dtype) == ((SIDE, SIDE), np.uint16)
    np.testing.assert_array_equal(draw(label, 5), found)
    assert not np.array_equal(draw(label, 6), found)


def test_sizes_follow_the_prior():
    """Areas and heights of what was measured, against the means of the prior."""
    envelopes, parcels, doubles = (maps(label) for label in range(3))
    px = MM_PER_PX**2
    # Middle heights, free of noise at single pixels.
    middles = [np.array([np.median(one[one > 10]) for one in kind]) for kind in (parcels, doubles)]
    # Of a log-normal, the median is the middle of the prior: 110 mm.
    assert np.median(middles[0]) == pytest.approx(110, rel=0.15)
    assert np.percentile(envelopes[envelopes > 0], 99) < 35
    # Length 300 mm and width 0.7 of it, less missing pixels.
    area = (parcels > 10).sum(axis=(1, 2)) * px
    assert np.median(area) == pytest.approx(0.7 * 300**2, rel=0.2)
    # Two lie there, some of them on one another.
    assert 1.2 < np.mean((doubles > 10).sum(axis=(1, 2)) * px) / np.mean(area) < 2
    assert np.mean(doubles.max(axis=(1, 2))) > 1.2 * np.mean(parcels.max(axis=(1, 2)))


def test_noise_is_a_millimetre_and_pixels_are_missing():
    spreads, missing = [], []
    for one in maps(1, 20):
        rows, columns = np.nonzero(one > 15)
        inner = one[rows.min() + 3 : rows.max() - 2, columns.min() + 3 : columns.max() - 2]
        steps = np.diff(inner, axis=1)[(inner[:, 1:] > 15) & (inner[:, :-1] > 15)]
        # A robust spread of the difference of two pixels: sqrt(2) sigma, and whole millimetres.
        spreads.append(1.4826 * np.median(np.abs(steps)) / np.sqrt(2))
        missing.append((inner == 0).mean())
    assert 0.7 < np.mean(spreads) < 1.6
    assert np.median(missing) > 0.005


def test_the_sample_is_long_tailed_and_its_png_keep_16_bits(tmp_path):
    found = dict(_parcels(Sample(seed=3, source="parcels", imbalance_ratio=200.0)))
    labels = [name.partition("/")[0] for name in found]
    # 800, 800 / sqrt(200), 800 / 200
    assert [labels.count(name) for name in CLASSES] == [800, 57, 4]
    name, picture = next((n, p) for n, p in found.items() if n.startswith("double"))
    picture.save(tmp_path / "one.png")
    read = decode((tmp_path / "one.png").read_bytes(), 0, grey=True, needed=(SIDE, SIDE))
    number = int(name.partition("/")[2])
    expected = draw_parcel(2, np.random.default_rng([3, 2, number]))
    np.testing.assert_array_equal(read[..., 0], expected)
    assert read.dtype == np.uint16
    with Image.open(tmp_path / "one.png") as image:
        assert image.mode == "I;16"
