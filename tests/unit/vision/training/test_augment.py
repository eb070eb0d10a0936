import math

import cv2
import numpy as np
import pytest
import torch

from pipeline.params import parse
from pipeline.params.choices.augmentations import Augmentations
from pipeline.vision._torchvision import import_torchvision
from pipeline.vision.training import augment as batch_augment
from pipeline.vision.training.augment.affine import inverse_affine
from pipeline.vision.training.augment.noise import normal

HFLIP = {"hflip": {"p": 0.5}}
VFLIP = {"vflip": {"p": 0.5}}
CROP = {"crop": {"padding": 3}}
AFFINE = {"affine": {"degrees": 30, "translate": 0.2, "scale": [0.7, 1.4], "shear": 20}}
COLOR = {"color": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2}}
GREY = {"color": {"brightness": 0.4, "contrast": 0.4, "saturation": 0, "hue": 0}}
NOISE = {"noise": {"std": 0.1}}
ERASE = {"erase": {"p": 0.7, "area": [0.1, 0.3]}}
SEVEN = [HFLIP, VFLIP, CROP, AFFINE, COLOR, NOISE, ERASE]


@pytest.fixture(params=[torch.contiguous_format, torch.channels_last], ids=["planes", "pixels"])
def images(request):
    drawn = np.random.default_rng(0).random((13, 3, 10, 12), dtype=np.float32)
    return torch.from_numpy(drawn).contiguous(memory_format=request.param)


def build_augment(items, shape):
    return batch_augment.build_augment(parse(Augmentations, items), shape)


def draw(augment, count, seed=0):
    drawn = augment.draw(count, np.random.default_rng(seed))
    return {name: torch.from_numpy(values) for name, values in drawn.items()}


def smooth(count, channels, height, width):
    """Make pictures without edges, on which interpolations agree."""
    rng = np.random.default_rng(1)
    noise = rng.random((count, channels, height, width), dtype=np.float32)
    blurred = np.stack([[cv2.GaussianBlur(c, (0, 0), 3) for c in image] for image in noise])
    return torch.from_numpy((blurred - blurred.min()) / (blurred.max() - blurred.min()))


# What holds for all


@pytest.mark.parametrize("items", [*[[i] for i in SEVEN], SEVEN, [NOISE, HFLIP, CROP, VFLIP]])
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


@pytest.mark.parametrize("items", [*[[i] for i in SEVEN], SEVEN])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_nothing_depends_on_values_that_only_the_device_has(items, memory_format):
    # Tensors on the device `meta` have a shape but no values: whoever asks for one fails.
    augment = build_augment(items, (10, 12, 3))
    draws = {name: values.to("meta") for name, values in draw(augment, 5).items()}
    images = torch.empty(5, 3, 10, 12, device="meta").contiguous(memory_format=memory_format)
    assert augment.apply(images, draws).shape == (5, 3, 10, 12)


def test_draws_repeat_with_the_generator_and_hold_a_row_per_image():
    augment = build_augment([HFLIP, *SEVEN, HFLIP], (10, 12, 3))
    one, two, other = draw(augment, 50), draw(augment, 50), draw(augment, 50, seed=1)
    assert {"0.hflip.flipped", "1.hflip.flipped", "8.hflip.flipped"} < set(one)
    assert all(len(values) == 50 for values in one.values())
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["0.hflip.flipped"], one["8.hflip.flipped"])


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


@pytest.mark.parametrize("item", [*SEVEN[:4], GREY, NOISE, ERASE])
def test_one_channel_will_do(item):
    grey = torch.rand(6, 1, 9, 7, generator=torch.Generator().manual_seed(0))
    augment = build_augment([item], (9, 7, 1))
    augmented = augment.apply(grey, draw(augment, 6))
    assert augmented.shape == grey.shape
    assert augmented.min() >= 0
    assert augmented.max() <= 1


# Flips and crops


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


# Affine


def one_affine(**changed):
    still = {"degrees": 0.0, "right": 0.0, "down": 0.0, "scale": 1.0, "shear": 0.0}
    return {name: np.array([value]) for name, value in {**still, **changed}.items()}


@pytest.mark.parametrize(
    "changed",
    [
        {"degrees": 25.0},
        {"degrees": -130.0},
        {"right": 0.13, "down": -0.21},
        {"scale": 0.6},
        {"scale": 1.7},
        {"shear": 20.0},
        {"degrees": 25.0, "right": 0.13, "down": -0.21, "scale": 0.8, "shear": -15.0},
    ],
)
def test_affine_is_what_opencv_does(changed):
    height, width = 30, 44
    images = smooth(1, 3, height, width)
    ((_, item),) = build_augment([AFFINE], (height, width, 3)).items
    values = one_affine(**changed)
    inverse = inverse_affine(**values, height_by_width=height / width)
    warped = item.apply(images, {"inverse": torch.from_numpy(inverse)})[0]

    # Slant, scale and turn about the middle, then move, as 3 x 3 matrices of pixels.
    v = {name: value.item() for name, value in values.items()}
    x, y = (width - 1) / 2, (height - 1) / 2
    to_middle = np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1]])
    slant = np.array([[1, -math.tan(math.radians(v["shear"])), 0], [0, 1, 0], [0, 0, 1]])
    turn = np.vstack([cv2.getRotationMatrix2D((0, 0), v["degrees"], v["scale"]), [0, 0, 1]])
    back = np.array([[1, 0, x + v["right"] * width], [0, 1, y + v["down"] * height], [0, 0, 1]])
    expected = cv2.warpAffine(
        np.ascontiguousarray(images[0].permute(1, 2, 0)),
        (back @ turn @ slant @ to_middle)[:2],
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    # OpenCV knows 32 places between two pixels.
    np.testing.assert_allclose(warped.permute(1, 2, 0), expected, rtol=0, atol=0.015)
    assert np.abs(warped.numpy() - images[0].numpy()).max() > 0.1


def test_affine_by_whole_pixels_and_quarter_turns_is_exact(images):
    ((_, item),) = build_augment([AFFINE], (10, 12, 3)).items
    values = one_affine(right=2 / 12, down=-3 / 10)
    inverse = torch.from_numpy(inverse_affine(**values, height_by_width=10 / 12))
    moved = item.apply(images[:1], {"inverse": inverse})
    expected = images[:1][:, :, [*range(3, 10), 9, 9, 9]][..., [0, 0, *range(10)]]
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-5)

    square = images[:1, :, :, :10]
    inverse = torch.from_numpy(inverse_affine(**one_affine(degrees=90.0), height_by_width=1.0))
    turned = item.apply(square, {"inverse": inverse})
    torch.testing.assert_close(turned, torch.rot90(square, 1, (2, 3)), rtol=0, atol=1e-5)


def test_affine_draws_stay_within_their_bounds():
    augment = build_augment([AFFINE], (10, 10, 1))
    matrices = draw(augment, 20_000)["0.affine.inverse"].double().numpy()
    # The inverse of a matrix A of determinant scale^2, whose second row, (sin, cos) / scale,
    # knows no shear.
    scale = np.linalg.det(matrices[:, :, :2]) ** -0.5
    turn = np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 1, 1]))
    move = -np.linalg.solve(matrices[:, :, :2], matrices[:, :, 2:])[..., 0] / 2
    for values, low, high in (
        (np.log(scale), math.log(0.7), math.log(1.4)),
        (turn, -30, 30),
        (move[:, 0], -0.2, 0.2),
        (move[:, 1], -0.2, 0.2),
    ):
        places = (values - low) / (high - low)
        assert -1e-5 < places.min() < 0.01
        assert 0.99 < places.max() < 1 + 1e-5
        # Uniform: five standard errors.
        assert places.mean() == pytest.approx(0.5, abs=5 / 12**0.5 / 20_000**0.5)
        assert places.std() == pytest.approx(12**-0.5, rel=0.03)
    together = np.corrcoef([scale, turn, *move.T]) - np.eye(4)
    assert np.abs(together).max() < 0.05


# Colour


def test_colour_is_what_torchvision_does(images):
    import_torchvision()
    from torchvision.transforms import functional

    for name, adjust in (
        ("brightness", functional.adjust_brightness),
        ("contrast", functional.adjust_contrast),
        ("saturation", functional.adjust_saturation),
        ("hue", functional.adjust_hue),
    ):
        zeros = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0)
        augment = build_augment([{"color": {**zeros, name: 0.5}}], (10, 12, 3))
        draws = draw(augment, len(images))
        assert set(draws) == {f"0.color.{name}"}
        factors = draws[f"0.color.{name}"].tolist()
        expected = [adjust(image, factor) for image, factor in zip(images, factors, strict=True)]
        # torchvision weighs red with 0.2989, not 0.299.
        torch.testing.assert_close(
            augment.apply(images, draws), torch.stack(expected), rtol=0, atol=2e-4
        )


def test_colours_come_in_the_order_of_their_names(images):
    import_torchvision()
    from torchvision.transforms import functional

    augment = build_augment([COLOR], (10, 12, 3))
    draws = draw(augment, len(images))
    expected = []
    for row, image in enumerate(images):
        changed = functional.adjust_brightness(image, draws["0.color.brightness"][row].item())
        changed = functional.adjust_contrast(changed, draws["0.color.contrast"][row].item())
        changed = functional.adjust_saturation(changed, draws["0.color.saturation"][row].item())
        expected.append(functional.adjust_hue(changed, draws["0.color.hue"][row].item()))
    torch.testing.assert_close(
        augment.apply(images, draws), torch.stack(expected), rtol=0, atol=2e-3
    )


def test_hue_of_pure_colours_and_greys():
    colours = [
        (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1),
        (0, 0, 0), (1, 1, 1), (0.3, 0.3, 0.3), (0.1, 0.7, 0.7),
    ]  # fmt: skip
    ((_, item),) = build_augment([COLOR], (1, 10, 3)).items
    image = torch.tensor(colours, dtype=torch.float32).T.reshape(1, 3, 1, 10)
    turned = item.apply(image, {"hue": torch.tensor([1 / 3])})
    # A third of the circle: red becomes green, green blue, blue red.
    torch.testing.assert_close(turned, image[:, [2, 0, 1]], rtol=0, atol=1e-6)
    turned = item.apply(image, {"hue": torch.tensor([0.5])})[0, :, 0].T
    chroma = image.amax(1) + image.amin(1) - image
    torch.testing.assert_close(turned, chroma[0, :, 0].T, rtol=0, atol=1e-6)


def test_colour_factors_are_uniform_and_independent():
    draws = draw(build_augment([COLOR], (4, 4, 3)), 20_000)
    values = np.stack([draws[f"0.color.{n}"] for n in ("brightness", "contrast", "saturation")])
    assert values.min() == pytest.approx(0.6, abs=1e-3)
    assert values.max() == pytest.approx(1.4, abs=1e-3)
    assert values.mean(axis=1) == pytest.approx([1.0] * 3, abs=0.01)
    hue = draws["0.color.hue"].numpy()
    assert (hue.min(), hue.max()) == pytest.approx((-0.2, 0.2), abs=1e-3)
    assert np.abs(np.corrcoef([*values, hue]) - np.eye(4)).max() < 0.05


# Noise


def test_noise_is_normal_and_independent_between_images_and_pixels():
    seeds = torch.from_numpy(np.random.default_rng(0).integers(-(2**31), 2**31, 64, np.int32))
    # Neighbours among seeds are as far apart as others.
    seeds[:8] = torch.arange(8, dtype=torch.int32)
    count = 4001
    noise = normal(seeds, count, 2.0).double().numpy() / 2.0
    assert noise.shape == (64, count)
    n = noise.size
    assert noise.mean() == pytest.approx(0, abs=5 / n**0.5)
    assert noise.var() == pytest.approx(1, abs=5 * (2 / n) ** 0.5)
    assert (noise**3).mean() == pytest.approx(0, abs=5 * (15 / n) ** 0.5)
    assert (noise**4).mean() == pytest.approx(3, abs=5 * (96 / n) ** 0.5)
    assert np.mean(np.abs(noise) < 0.6745) == pytest.approx(0.5, abs=5 * 0.5 / n**0.5)
    # Between images, and between a pixel and those after it.
    between = np.corrcoef(noise) - np.eye(64)
    assert np.abs(between).max() < 6 / count**0.5
    for lag in (1, 2, 63, 2000):
        assert np.mean(noise[:, :-lag] * noise[:, lag:]) == pytest.approx(0, abs=5.5 / n**0.5)
    # The two values of one draw of bits are not of one size either.
    first, second = noise[:, :2001][:, :2000], noise[:, 2001:]
    assert np.corrcoef(np.abs(first).ravel(), np.abs(second).ravel())[0, 1] == pytest.approx(
        0, abs=5 / second.size**0.5
    )


def test_noise_has_the_strength_asked_for_and_its_own_seed_per_image():
    augment = build_augment([NOISE], (40, 40, 1))
    grey = torch.full((20, 1, 40, 40), 0.5)
    draws = draw(augment, 20)
    added = augment.apply(grey, draws) - grey
    assert added.std().item() == pytest.approx(0.1, rel=0.02)
    assert draws["0.noise.seed"].dtype == torch.int32
    assert len(set(draws["0.noise.seed"].tolist())) == 20
    draws["0.noise.seed"][:] = 7
    same = augment.apply(grey, draws)
    assert torch.equal(same, same[:1].expand_as(same))


def test_no_noise_changes_nothing(images):
    augment = build_augment([{"noise": {"std": 0}}], (10, 12, 3))
    assert torch.equal(augment.apply(images, draw(augment, len(images))), images)


# Erasing


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
