import numpy as np
import pytest
import torch

from tests.augmentations import CROP, build_augment, draw


@pytest.mark.parametrize(("name", "dimension"), [("hflip", 3), ("vflip", 2)])
def test_flips(name, dimension, images):
    augment = build_augment([{name: {"p": 0.5}}], (10, 12, 3))
    draws = draw(augment, len(images))
    flipped = draws[f"0.{name}.flipped"]
    assert 0 < flipped.sum() < len(images)
    moved = augment.apply(images, draws)
    assert torch.equal(moved[flipped], images[flipped].flip(dimension))
    assert torch.equal(moved[~flipped], images[~flipped])
    # Channels_last stays channels_last.
    assert moved.stride() == images.stride()


@pytest.mark.parametrize("p", [0.0, 0.2, 1.0])
def test_flips_are_as_frequent_as_asked_for(p):
    for name in ("hflip", "vflip"):
        flipped = draw(build_augment([{name: {"p": p}}], (4, 4, 1)), 20_000)[f"0.{name}.flipped"]
        # Five standard deviations of a binomial share.
        assert flipped.float().mean().item() == pytest.approx(p, abs=5 * 0.5 / 20_000**0.5 * p)


def test_crop_is_a_window_of_the_padded_image(images):
    augment = build_augment([CROP], (10, 12, 3))
    draws = draw(augment, len(images))
    cropped = augment.apply(images, draws).numpy()
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)), mode="edge")
    for row, (down, right) in enumerate(
        zip(draws["0.crop.down"].tolist(), draws["0.crop.right"].tolist(), strict=True)
    ):
        window = padded[row, :, 3 + down : 13 + down, 3 + right : 15 + right]
        np.testing.assert_array_equal(cropped[row], window)


def test_crops_are_uniform():
    draws = draw(build_augment([CROP], (10, 12, 3)), 14_000)
    for name in ("0.crop.down", "0.crop.right"):
        values, counts = np.unique(draws[name].numpy(), return_counts=True)
        assert values.tolist() == [-3, -2, -1, 0, 1, 2, 3]
        assert counts == pytest.approx([2000] * 7, abs=5 * 2000**0.5)


def test_flip_then_crop_is_not_crop_then_flip(images):
    items = [{"hflip": {"p": 1.0}}, CROP]
    augment = build_augment(items, (10, 12, 3))
    draws = draw(augment, len(images))
    draws["1.crop.right"][:], draws["1.crop.down"][:] = 2, 0
    expected = images.flip(3)[..., [*range(2, 12), 11, 11]]
    assert torch.equal(augment.apply(images, draws), expected)
