"""What each augmentation's arguments may be, and what does not suit the images."""

import math

import pytest

from pipeline.errors import PipelineError
from pipeline.params import MistakesError, misfits, parse
from pipeline.params.choices.augmentations import Augmentations
from pipeline.vision.training.augment import build_augment
from tests.augmentations import AFFINE, ALL, COLOR, CROP, CUTOUT, ERASE, HFLIP, NOISE, VFLIP


def said_of(items):
    with pytest.raises(MistakesError) as caught:
        parse(Augmentations, items)
    return list(caught.value.args)


@pytest.mark.parametrize(
    ("item", "changed", "message"),
    [
        (HFLIP, {"p": 1.5}, "p: got 1.5, need a number from 0 to 1"),
        (VFLIP, {"p": True}, "p: got true, need a number from 0 to 1"),
        (VFLIP, {"p": None}, "p: got null, need a number from 0 to 1"),
        (CROP, {"padding": 2.5}, "padding: got 2.5, need a whole number of at least 0"),
        (CROP, {"padding": -1}, "padding: got -1, need a whole number of at least 0"),
        (AFFINE, {"degrees": math.nan}, "degrees: got NaN, need a number from 0 to 180"),
        (AFFINE, {"translate": "1"}, 'translate: got "1", need a number from 0 to 0.5'),
        (
            AFFINE,
            {"scale": [1.2, 0.8]},
            "scale: got [1.2, 0.8], need [low, high] with 0.1 <= low <= high <= 10",
        ),
        (AFFINE, {"scale": [0, 1]}, "scale: got [0, 1], need [low, high] with 0.1 <= low"),
        (AFFINE, {"scale": 1.1}, "scale: got 1.1, need [low, high]"),
        (AFFINE, {"scale": [1, 1, 1]}, "scale: got [1, 1, 1], need [low, high]"),
        (AFFINE, {"shear": -1}, "shear: got -1, need a number from 0 to 60"),
        (COLOR, {"brightness": 2}, "brightness: got 2, need a number from 0 to 1"),
        (COLOR, {"hue": 0.6}, "hue: got 0.6, need a number from 0 to 0.5"),
        (NOISE, {"std": -0.1}, "std: got -0.1, need a number from 0 to 1"),
        (CUTOUT, {"size": 0}, "size: got 0, need a whole number of at least 1"),
        (ERASE, {"area": [0.1, "x"]}, 'area: got [0.1, "x"], need [low, high] with 0.001 <= low'),
    ],
)
def test_mistakes_say_where_and_what(item, changed, message):
    ((name, arguments),) = item.items()
    (said,) = said_of([HFLIP, NOISE, {name: {**arguments, **changed}}])
    assert said.startswith(f"[2].{name}.{message}")


def test_all_mistakes_come_together():
    assert said_of([{"erase": {"q": 1, "area": 1}}, {"noise": {"std": 7}}]) == [
        "[0].erase.area: got 1, need [low, high] with 0.001 <= low <= high <= 1",
        "[0].erase.q: unknown key, valid: p, area",
        "[1].noise.std: got 7, need a number from 0 to 1",
    ]


def test_what_is_left_out_has_its_default():
    """RandomHorizontalFlip, ColorJitter, GaussianNoise, RandomErasing; the crop of He et al."""
    names = ["hflip", "vflip", "crop", "affine", "color", "noise", "erase"]
    names += ["cutout", "auto_augment", "trivial_augment"]
    items = parse(Augmentations, [{name: {}} for name in names])
    assert [dict(item) for item in items] == [
        {"p": 0.5},
        {"p": 0.5},
        {"padding": 4},
        {"degrees": 0.0, "translate": 0.0, "scale": (1.0, 1.0), "shear": 0.0},
        {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0},
        {"std": 0.1},
        {"p": 0.5, "area": (0.02, 0.33)},
        {"size": 16},
        {},
        {},
    ]


def test_every_augmentation_can_be_built():
    built = build_augment(parse(Augmentations, ALL), (10, 12, 3))
    assert [prefix for prefix, _ in built.items] == [
        f"{i}.{next(iter(item))}" for i, item in enumerate(ALL)
    ]


def test_the_window_of_a_crop_moves_by_half_of_the_shorter_side_at_most():
    assert misfits(parse(Augmentations, [{"crop": {"padding": 5}}]), (10, 12, 3)) == []
    with pytest.raises(PipelineError) as caught:
        build_augment(parse(Augmentations, [HFLIP, {"crop": {"padding": 6}}]), (12, 10, 3))
    assert str(caught.value) == "augment[1].crop.padding: got 6, need a whole number from 0 to 5"


def test_a_square_that_is_cut_out_is_no_larger_than_the_image():
    assert misfits(parse(Augmentations, [{"cutout": {"size": 10}}]), (10, 12, 3)) == []
    (said,) = misfits(parse(Augmentations, [{"cutout": {}}]), (10, 12, 3))
    assert said == "[0].cutout.size: got 16, need a whole number from 1 to 10"


def test_one_channel_has_no_saturation_and_no_hue():
    with pytest.raises(PipelineError) as caught:
        build_augment(parse(Augmentations, [COLOR]), (10, 12, 1))
    assert str(caught.value) == (
        "augment[0].color.saturation: got 0.4, need 0, for the images have one channel;"
        " augment[0].color.hue: got 0.2, need 0, for the images have one channel"
    )
