"""What holds for all augmentations, and for several in a row."""

import numpy as np
import pytest
import torch

from tests.augmentations import ALL, CROP, ERASE, GREY, HFLIP, NOISE, VFLIP, build_augment, draw


@pytest.mark.parametrize("items", [*[[i] for i in ALL], ALL, [NOISE, HFLIP, CROP, VFLIP]])
def test_a_share_is_augmented_as_it_is_in_the_whole(items, images):
    augment = build_augment(items, (10, 12, 3))
    before = images.clone()
    draws = draw(augment, len(images))
    whole = augment.apply(images, draws)
    assert whole.shape == images.shape
    assert whole.dtype == torch.float32
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert torch.equal(images, before)
    assert not torch.equal(whole, images)
    for workers in (2, 4):
        for rank in range(workers):
            own = slice(rank, None, workers)
            share = augment.apply(images[own], {name: d[own] for name, d in draws.items()})
            torch.testing.assert_close(share, whole[own], rtol=0, atol=2e-6)


@pytest.mark.parametrize("items", [*[[i] for i in ALL], ALL])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_nothing_depends_on_values_that_only_the_device_has(items, memory_format):
    # Tensors on the device `meta` have a shape but no values: asking for one fails.
    augment = build_augment(items, (10, 12, 3))
    draws = {name: values.to("meta") for name, values in draw(augment, 5).items()}
    images = torch.empty(5, 3, 10, 12, device="meta").contiguous(memory_format=memory_format)
    assert augment.apply(images, draws).shape == (5, 3, 10, 12)


def test_draws_repeat_with_the_generator_and_hold_a_row_per_image():
    augment = build_augment([HFLIP, *ALL, HFLIP], (10, 12, 3))
    one, two, other = draw(augment, 50), draw(augment, 50), draw(augment, 50, seed=1)
    assert {"0.hflip.flipped", "1.hflip.flipped", "11.hflip.flipped"} < set(one)
    assert all(len(values) == 50 for values in one.values())
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["0.hflip.flipped"], one["11.hflip.flipped"])


def test_items_happen_in_the_order_given(images):
    for items in ([ERASE, HFLIP, NOISE], [NOISE, HFLIP, CROP, ERASE], [CROP, HFLIP, CROP, VFLIP]):
        augment = build_augment(items, (10, 12, 3))
        draws = draw(augment, len(images))
        expected = images
        for prefix, item in augment.items:
            own = {
                name.removeprefix(f"{prefix}."): values
                for name, values in draws.items()
                if name.startswith(f"{prefix}.")
            }
            expected = item.apply(expected, own)
        assert torch.equal(augment.apply(images, draws), expected)


def test_more_than_ten_items_keep_their_draws_apart(images):
    augment = build_augment([HFLIP] * 11 + [{"hflip": {"p": 1.0}}], (10, 12, 3))
    draws = draw(augment, len(images))
    odd = sum(draws[f"{position}.hflip.flipped"].int() for position in range(12)) % 2 == 1
    expected = torch.where(odd[:, None, None, None], images.flip(3), images)
    assert torch.equal(augment.apply(images, draws), expected)


def test_nothing_asked_for_is_nothing_done(images):
    augment = build_augment([], (10, 12, 3))
    assert augment.draw(4, np.random.default_rng(0)) == {}
    assert augment.apply(images, {}) is images


@pytest.mark.parametrize("item", [*ALL[:4], GREY, NOISE, ERASE])
def test_one_channel_will_do(item):
    grey = torch.rand(6, 1, 9, 7, generator=torch.Generator().manual_seed(0))
    augment = build_augment([item], (9, 7, 1))
    augmented = augment.apply(grey, draw(augment, 6))
    assert augmented.shape == grey.shape
    assert augmented.min() >= 0
    assert augmented.max() <= 1
