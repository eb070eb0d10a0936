import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.params import parse
from pipeline.params.choices.augmentations import Augmentations
from pipeline.vision._torchvision import import_torchvision
from pipeline.vision.training.augment import build_augment
from pipeline.vision.training.augment.operations import (
    BLENDS,
    NUMBER,
    OPERATIONS,
    inverse_moves,
    operate,
)
from pipeline.vision.training.augment.policies import _CIFAR10, AutoAugment, TrivialAugment

SHAPE = (32, 30)
# Values of torchvision's reference, on either side.
VALUES = {
    "shear_x": (0.33, -0.99),
    "shear_y": (0.2, -0.7),
    "translate_x": (7, -20),
    "translate_y": (3, -9),
    "rotate": (30.0, -100.0),
    "brightness": (0.5, -0.9),
    "color": (0.9, -0.4),
    "contrast": (0.7, -0.7),
    "sharpness": (0.9, -0.5),
    "posterize": (4, 2),
    "solarize": (100, 255.0),
}


def autoaugment():
    import_torchvision()
    from torchvision.transforms import autoaugment

    return autoaugment


def pictures(count=6):
    """Smooth bytes, and one image of a single level."""
    drawn = torch.rand(count, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    smooth = functional.interpolate(drawn, SHAPE, mode="bicubic").clamp(0, 1)
    smooth[-1] = 0.25
    return (smooth * 255).round().to(torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_torchvisions(name, channels):
    reference = autoaugment()
    theirs = "".join(word.title() for word in name.split("_"))
    nearest = reference.InterpolationMode.NEAREST
    levels = pictures()[:, :channels]
    for value in VALUES.get(name, (0.0,)):
        kinds = np.full(len(levels), NUMBER[name])
        values = np.full(len(levels), value + (name in BLENDS), float)
        found = operate(
            levels / 255,
            torch.from_numpy(kinds),
            torch.from_numpy(values).float(),
            torch.from_numpy(inverse_moves(kinds, values, SHAPE)),
        )
        fill = [127.5] * channels
        expected = reference._apply_op(levels, theirs, float(value), nearest, fill) / 255
        # They round to bytes, the grey of a blend too.
        assert (found - expected).abs().max() <= 2 / 255


def test_each_image_undergoes_its_own_operation():
    levels = pictures(len(OPERATIONS)) / 255
    kinds = np.arange(len(OPERATIONS))
    values = np.array([VALUES.get(name, (0.0,))[0] for name in OPERATIONS], float)
    numbers = torch.from_numpy(kinds), torch.from_numpy(values).float()
    inverse = torch.from_numpy(inverse_moves(kinds, values, SHAPE))
    together = operate(levels, *numbers, inverse)
    for i in range(len(kinds)):
        alone = operate(levels[i : i + 1], *(x[i : i + 1] for x in numbers), inverse[i : i + 1])
        assert torch.equal(together[i : i + 1], alone)
    assert together.min() >= 0
    assert together.max() <= 1


def test_trivial_augment_draws_as_torchvision_does():
    space = autoaugment().TrivialAugmentWide()._augmentation_space(31)
    drawn = TrivialAugment(*SHAPE).draw(40_000, np.random.default_rng(0))
    names = ["".join(word.title() for word in OPERATIONS[kind].split("_")) for kind in range(14)]
    assert sorted(names) == sorted(space)
    shares = np.bincount(drawn["kind"], minlength=15) / 40_000
    assert shares[14] == 0
    assert np.abs(shares[:14] - 1 / 14).max() < 0.006
    for kind, name in enumerate(names):
        magnitudes, signed = space[name]
        found = np.unique(drawn["value"][drawn["kind"] == kind])
        expected = np.atleast_1d(magnitudes.numpy()).astype(float)
        if name.startswith("Translate"):
            expected = np.trunc(expected + 1e-4)  # linspace is short of whole numbers
        expected = np.concatenate([expected, -expected]) if signed else expected
        expected = np.unique(expected + (OPERATIONS[kind] in BLENDS))
        np.testing.assert_allclose(found, np.unique(expected.astype(np.float32)), atol=1e-5)


def test_auto_augment_has_torchvisions_policy():
    reference = autoaugment()
    theirs = reference.AutoAugment(reference.AutoAugmentPolicy.CIFAR10)
    space = theirs._augmentation_space(10, SHAPE)
    ours = AutoAugment(*SHAPE)
    for number, pair in enumerate(theirs.policies):
        for place, (name, share, strength) in enumerate(pair):
            own_name, own_share, own_strength = _CIFAR10[number][place]
            assert "".join(word.title() for word in own_name.split("_")) == name
            assert own_share == share
            assert strength in (None, own_strength)
    drawn = ours.draw(60_000, np.random.default_rng(0))
    for place in range(2):
        kinds, values = drawn[f"kind{place}"], drawn[f"value{place}"]
        for kind, own_name in enumerate(OPERATIONS):
            # Each pair is as likely; an operation that is not applied is the identity.
            share = sum(pair[place][1] / 25 for pair in _CIFAR10 if pair[place][0] == own_name)
            if kind:
                assert (kinds == kind).mean() == pytest.approx(share, abs=0.007)
            name = "".join(word.title() for word in own_name.split("_"))
            used = [pair[place][2] for pair in _CIFAR10 if pair[place][:1] == (own_name,)]
            if share and space.get(name, (torch.tensor(0.0),))[0].ndim:
                magnitudes, signed = space[name]
                expected = magnitudes.numpy().astype(float)[used]
                if name.startswith("Translate"):
                    expected = np.trunc(expected + 1e-4)  # linspace is short of whole numbers
                expected = np.concatenate([expected, -expected]) if signed else expected
                expected = np.unique((expected + (own_name in BLENDS)).astype(np.float32))
                np.testing.assert_allclose(np.unique(values[kinds == kind]), expected, atol=1e-4)


def test_cutout_paints_squares_that_the_edge_cuts():
    (cutout,) = (
        item
        for _, item in build_augment(
            parse(Augmentations, [{"cutout": {"size": 8}}]), (32, 30, 3)
        ).items
    )
    boxes = cutout.draw(20_000, np.random.default_rng(0))["box"]
    height, width = (boxes[:, 2:] - boxes[:, :2]).T
    assert height.max() == width.max() == 8
    assert height.min() == width.min() == 4  # the middle lies in the image
    assert (height == 8).mean() == pytest.approx(25 / 32, abs=0.01)
    images = pictures() / 255
    draws = {"box": torch.from_numpy(boxes[: len(images)])}
    painted = cutout.apply(images, draws)
    for image, before, (top, left, bottom, right) in zip(painted, images, boxes, strict=False):
        inside = image[:, top:bottom, left:right]
        expected = before.mean((1, 2), keepdim=True).expand_as(inside)
        torch.testing.assert_close(inside, expected)
        rest = image.clone()
        rest[:, top:bottom, left:right] = before[:, top:bottom, left:right]
        assert torch.equal(rest, before)
