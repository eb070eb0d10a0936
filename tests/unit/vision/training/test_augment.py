"""Each augmentation against an independent reference: slices, OpenCV, torchvision."""

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.errors import PipelineError
from pipeline.vision._torchvision import import_torchvision
from pipeline.vision.training.augment import build_augment
from pipeline.vision.training.augment.noise import normal

EACH = {
    "hflip": {"p": 0.5},
    "vflip": {"p": 0.5},
    "crop": {"padding": 4},
    "affine": {"degrees": 20, "translate": 0.1, "scale": [0.8, 1.2], "shear": 10},
    "color": {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.1},
    "noise": {"std": 0.1},
    "erase": {"p": 0.5, "area": [0.05, 0.3]},
}
ALL = [{name: values} for name, values in EACH.items()]


def smooth_images(count=16, channels=3, height=24, width=20, seed=0):
    coarse = torch.rand(count, channels, 4, 4, generator=torch.Generator().manual_seed(seed))
    return functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


def build(items, images):
    _, channels, height, width = images.shape
    return build_augment(items, (height, width, channels))


def drawn(augment, count, seed=0):
    draws = augment.draw(count, np.random.default_rng(seed))
    assert all(len(values) == count for values in draws.values())
    return {name: torch.from_numpy(values) for name, values in draws.items()}


@pytest.mark.parametrize("items", [[item] for item in ALL] + [ALL, ALL[::-1], [*ALL, *ALL]])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_share_is_augmented_as_within_the_whole_batch(items, channels_last):
    images = smooth_images()
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    before = images.clone()
    augment = build(items, images)
    draws = drawn(augment, len(images))
    whole = augment.apply(images, draws)
    assert torch.equal(images, before)
    assert whole.shape == images.shape
    assert whole.dtype == torch.float32
    assert whole.min() >= 0
    assert whole.max() <= 1
    assert not torch.equal(whole, images)
    for workers in (2, 3):
        for rank in range(workers):
            part = augment.apply(
                images[rank::workers], {name: value[rank::workers] for name, value in draws.items()}
            )
            assert torch.allclose(part, whole[rank::workers], atol=1e-6)


def test_draws_are_those_of_the_generator():
    augment = build(ALL, smooth_images())
    first, again, other = (drawn(augment, 5, seed) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    twice = drawn(build([{"noise": {"std": 0.1}}] * 2, smooth_images()), 5)
    assert len(twice) == 2  # each of two alike has draws of its own


@pytest.mark.parametrize(("name", "axis"), [("hflip", 3), ("vflip", 2)])
def test_flips_by_slices(name, axis):
    images = torch.rand(400, 1, 5, 6)
    augment = build([{name: {"p": 0.3}}], images)
    result = augment.apply(images, drawn(augment, 400))
    flipped = (result == images.flip(axis)).flatten(1).all(1)
    same = (result == images).flatten(1).all(1)
    assert (flipped ^ same).all()
    assert flipped.float().mean() == pytest.approx(0.3, abs=0.07)


def test_crops_by_padding_and_slices():
    images = torch.rand(300, 2, 8, 10)
    augment = build([{"crop": {"padding": 3}}], images)
    result = augment.apply(images, drawn(augment, 300))
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)), mode="symmetric")
    places = set()
    for row in range(300):
        windows = {
            (top, left)
            for top in range(7)
            for left in range(7)
            if np.array_equal(padded[row, :, top : top + 8, left : left + 10], result[row].numpy())
        }
        assert len(windows) == 1
        places |= windows
    assert len(places) == 49  # every place comes up


def test_flip_then_crop_is_one_after_the_other():
    images = torch.rand(20, 1, 8, 8)
    items = [{"hflip": {"p": 0.5}}, {"crop": {"padding": 2}}, {"vflip": {"p": 0.5}}]
    together = build(items, images)
    draws = drawn(together, 20)
    expected = images
    for position, item in enumerate(items):
        alone = build([item], images)
        own = {
            name.replace(f"{position}.", "0.", 1): value
            for name, value in draws.items()
            if name.startswith(f"{position}.")
        }
        expected = alone.apply(expected, own)
    assert torch.equal(together.apply(images, draws), expected)


@pytest.mark.parametrize(
    "values",
    [
        {"degrees": 30},
        {"translate": 0.2},
        {"scale": [0.7, 1.4]},
        {"shear": 20},
        {"degrees": 15, "translate": 0.1, "scale": [0.9, 1.1], "shear": 10},
    ],
)
def test_affine_against_opencv(values):
    images = smooth_images(count=8, channels=1, height=32, width=40)
    rest = {"degrees": 0, "translate": 0, "scale": [1, 1], "shear": 0}
    augment = build([{"affine": rest | values}], images)
    draws = drawn(augment, len(images))
    result = augment.apply(images, draws)
    # From places in [-1, 1] to pixels, whose middles lie at half numbers.
    to_places = np.array([[2 / 40, 0, 1 / 40 - 1], [0, 2 / 32, 1 / 32 - 1], [0, 0, 1]])
    moved = 0.0
    for row, image in enumerate(images.numpy()):
        inverse = np.vstack([draws["0.affine.inverse"][row].double().numpy(), [0, 0, 1]])
        in_pixels = np.linalg.inv(to_places) @ inverse @ to_places
        expected = cv2.warpAffine(
            image[0],
            in_pixels[:2],
            (40, 32),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )
        assert np.abs(result[row, 0].numpy() - expected).mean() < 0.01
        moved = max(moved, float(np.abs(expected - image[0]).mean()))
    assert moved > 0.02


def test_an_affine_turn_is_as_large_as_asked_for_and_counter_clockwise():
    """A dot to the right of the middle goes up when turned by 90 degrees against the clock."""
    images = torch.zeros(200, 1, 33, 33)
    images[:, :, 15:18, 25:28] = 1
    turn = {"degrees": 90, "translate": 0, "scale": [1, 1], "shear": 0}
    augment = build([{"affine": turn}], images)
    result = augment.apply(images, drawn(augment, 200))[:, 0]
    y, x = torch.meshgrid(torch.arange(33.0) - 16, torch.arange(33.0) - 16, indexing="ij")
    mass = result.sum((1, 2))
    angles = torch.atan2(-(result * y).sum((1, 2)) / mass, (result * x).sum((1, 2)) / mass)
    assert angles.min() == pytest.approx(-np.pi / 2, abs=0.1)
    assert angles.max() == pytest.approx(np.pi / 2, abs=0.1)
    assert angles.mean().abs() < 0.2


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_colour_against_torchvision(name):
    adjust = getattr(import_torchvision().transforms.functional, f"adjust_{name}")
    images = smooth_images(count=6)
    values = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0} | {name: 0.4}
    augment = build([{"color": values}], images)
    draws = drawn(augment, len(images))
    (factors,) = draws.values()
    result = augment.apply(images, draws)
    for row, image in enumerate(images):
        expected = adjust(image, float(factors[row]))
        assert torch.allclose(result[row], expected, atol=2e-3), name
    middle = 0.0 if name == "hue" else 1.0
    assert (factors - middle).abs().max() <= 0.4
    assert (factors - middle).abs().max() > 0.1


def test_grey_images_take_brightness_and_contrast():
    images = smooth_images(channels=1)
    values = {"brightness": 0.4, "contrast": 0.4, "saturation": 0, "hue": 0}
    augment = build([{"color": values}], images)
    draws = drawn(augment, len(images))
    bright = draws["0.color.brightness"][:, None, None, None] * images
    mean = bright.clamp(0, 1).mean((1, 2, 3), keepdim=True)
    factor = draws["0.color.contrast"][:, None, None, None]
    expected = (mean + factor * (bright.clamp(0, 1) - mean)).clamp(0, 1)
    assert torch.allclose(augment.apply(images, draws), expected, atol=1e-5)


def test_noise_is_normal_and_independent():
    values = normal(torch.arange(64, dtype=torch.int32) * 7919 - 9, 3 * 32 * 32 + 1, 0.1)
    assert values.mean().abs() < 1e-3
    assert values.std() == pytest.approx(0.1, rel=0.01)
    standard = values / 0.1
    assert (standard**3).mean().abs() < 0.03
    assert (standard**4).mean() == pytest.approx(3, abs=0.1)
    for distance in (1, 2, 32):
        near = (standard[:, distance:] * standard[:, :-distance]).mean()
        assert near.abs() < 0.01
    correlation = np.corrcoef(values.numpy())
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < 5 / np.sqrt(values.shape[1])


def test_erased_rectangles_have_the_area_asked_for():
    images = torch.rand(500, 2, 20, 30)
    augment = build([{"erase": {"p": 0.6, "area": [0.1, 0.2]}}], images)
    result = augment.apply(images, drawn(augment, 500))
    changed = (result != images).all(1)
    share = changed.float().mean((1, 2))
    erased = share > 0
    assert erased.float().mean() == pytest.approx(0.6, abs=0.07)
    assert share[erased].min() > 0.1 - 0.03
    assert share[erased].max() < 0.2 + 0.03
    for row in torch.nonzero(erased)[:50, 0]:
        rows, columns = torch.nonzero(changed[row]).unbind(1)
        box = changed[row][rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert box.all()  # one whole rectangle
        painted = result[row][:, changed[row]]
        assert torch.allclose(painted, images[row].mean((1, 2))[:, None], atol=1e-5)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"hflip": {"p": 1.5}}, r"augment\[0\].hflip.p: got 1.5, need a number from 0 to 1"),
        ({"hflip": {}}, r"augment\[0\].hflip.p: missing, add a number from 0 to 1"),
        ({"crop": {"padding": 2.5}}, r"crop.padding: got 2.5, need a whole number from 0 to 10"),
        ({"noise": {"std": "much"}}, r"noise.std: got much, need a number from 0 to 1"),
        (
            {"affine": EACH["affine"] | {"scale": [1.2, 0.8]}},
            r"affine.scale: got \[1.2, 0.8\], need \[low, high\] with 0.1 <= low <= high <= 10",
        ),
        ({"erase": {"p": True, "area": [0.1, 0.2]}}, "erase.p: got True, need a number"),
    ],
)
def test_values_that_make_no_sense(item, message):
    with pytest.raises(PipelineError, match=message):
        build_augment([item], (24, 20, 3))


def test_all_mistakes_are_told_at_once():
    items = [{"hflip": {"p": 2}}, {"crop": {"padding": 99}}]
    with pytest.raises(PipelineError, match=r"augment\[0\].hflip.p: .*; augment\[1\].crop.padding"):
        build_augment(items, (24, 20, 3))


def test_saturation_of_grey_images_is_a_mistake():
    with pytest.raises(
        PipelineError, match=r"saturation: got 0.3, need 0, for the images have one"
    ):
        build_augment([{"color": EACH["color"] | {"hue": 0}}], (24, 20, 1))
