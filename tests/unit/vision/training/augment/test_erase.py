import math

import numpy as np
import pytest
import torch

from tests.augmentations import ERASE, build_augment, draw


@pytest.mark.parametrize("shape", [(28, 28), (16, 60)])
def test_a_rectangle_is_erased_and_nothing_else(shape):
    height, width = shape
    rng = np.random.default_rng(3)
    images = torch.from_numpy(rng.random((500, 3, height, width), dtype=np.float32))
    augment = build_augment([ERASE], (height, width, 3))
    draws = draw(augment, 500)
    erased = augment.apply(images, draws)
    changed = (erased != images).any(dim=1)
    share = changed.flatten(1).float().mean(1)
    # 70 % of the images; five standard deviations.
    assert (share > 0).float().mean().item() == pytest.approx(0.7, abs=5 * (0.21 / 500) ** 0.5)
    # Rounding to whole columns costs half a column at most.
    some = share[share > 0]
    assert some.min() >= 0.1 - 0.5 / width
    assert some.max() <= 0.3 + 0.5 / width
    assert some.max() - some.min() > 0.17
    for row, (top, left, bottom, right) in enumerate(draws["0.erase.box"].tolist()):
        inside = torch.zeros(height, width, dtype=torch.bool)
        inside[top:bottom, left:right] = True
        assert torch.equal(changed[row], inside)
        painted = erased[row][:, inside]
        expected = images[row].mean((1, 2))[:, None].expand_as(painted)
        torch.testing.assert_close(painted, expected)


def test_rectangles_of_all_forms_lie_everywhere():
    draws = draw(build_augment([{"erase": {"p": 1, "area": [0.05, 0.1]}}], (64, 64, 1)), 5000)
    top, left, bottom, right = draws["0.erase.box"].numpy().T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert bottom.max() == 64
    assert right.max() == 64
    assert top.min() == left.min() == 0
    aspect = np.log((bottom - top) / (right - left)) / math.log(1 / 0.3)
    assert np.abs(aspect).max() < 1.1
    assert aspect.mean() == pytest.approx(0, abs=0.05)
    assert aspect.std() == pytest.approx(3**-0.5, rel=0.05)
