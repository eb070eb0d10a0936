import io
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from pipeline.evaluation.map import make_thumbnails, spread


def photographs(n, side=48, channels=3, dtype=np.uint8):
    """Blocks of noise: as hard to compress as photographs."""
    blocks = np.random.default_rng(0).random((n, side // 4, side // 4, channels))
    whole = blocks.repeat(4, axis=1).repeat(4, axis=2)
    return (whole * np.iinfo(dtype).max).astype(dtype)


def make(images, budget, order=None, priority=None):
    rows = np.arange(len(images))
    order, priority = (rows if one is None else one for one in (order, priority))
    return make_thumbnails(lambda numbers: images[numbers], order, priority, budget)


def cut(made, i):
    """Return thumbnail i as the page finds it."""
    sheet, at = divmod(int(made.numbers[i]), made.per_sheet)
    left, top = at % made.columns * made.width, at // made.columns * made.height
    with Image.open(io.BytesIO(made.sheets[sheet])) as picture:
        assert max(picture.size) <= 1024
        box = (left, top, left + made.width, top + made.height)
        return np.asarray(picture.convert("RGB").crop(box), np.float64)


@pytest.mark.parametrize(("channels", "dtype"), [(3, np.uint8), (1, np.uint8), (1, np.uint16)])
def test_each_image_has_its_thumbnail(channels, dtype):
    """Over more than one sheet, in an order of their own, as bright as the image."""
    levels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, 400)
    images = np.broadcast_to(levels[:, None, None, None], (400, 60, 44, channels)).astype(dtype)
    order = np.random.default_rng(1).permutation(400)
    made = make(images, 1_000_000, order)
    assert (made.height, made.width, len(made.sheets)) == (60, 44, 2)
    assert sorted(made.numbers) == list(range(400))
    assert list(np.argsort(made.numbers)) == list(order)
    for i in range(0, 400, 23):
        white = 255 if dtype == np.uint8 else 2 ** int(levels[i]).bit_length() - 1
        expected = levels[i] * 255 / white
        assert np.abs(cut(made, i) - expected).mean() < 4


def test_thumbnails_shrink_until_they_fit_and_then_some_images_have_none():
    images = photographs(120)
    sides, numbers = [], []
    for budget in (800_000, 80_000, 30_000, 4_000, 0):
        made = make(images, budget, priority=np.arange(120)[::-1])
        assert sum(map(len, made.sheets)) <= budget
        with_one = np.flatnonzero(made.numbers >= 0)
        # Those that come first have one.
        assert list(with_one) == list(range(120 - len(with_one), 120))
        sides.append(made.height)
        numbers.append(len(with_one))
    assert sides[:3] == sorted(sides[:3], reverse=True)
    assert (sides[0], sides[3]) == (48, 24)
    assert numbers[:2] == [120, 120]
    assert 0 < numbers[3] < 120
    assert numbers[4] == 0


def test_no_images_need_no_sheets():
    assert make(photographs(0), 1000).sheets == []


def test_spread_takes_of_each_class_in_turn():
    labels = np.array([0] * 50 + [2] * 3 + [5] * 20)
    order = spread(labels, 0)
    assert sorted(order) == list(range(73))
    for n in (3, 9, 20):
        counts = Counter(labels[order[:n]].tolist())
        rest = (n - min(n // 3, 3)) / 2
        assert counts[2] == min(n // 3, 3)
        assert abs(counts[0] - rest) <= 0.5
    assert list(order[:9]) != list(spread(labels, 1)[:9])
    assert len(spread(np.empty(0, int), 0)) == 0
