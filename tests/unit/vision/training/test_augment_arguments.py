import math

import pytest
from pipeline.params._augmentations import BATCH_AUGMENTATIONS
from pipeline.vision.training.augment.arguments import needs

from pipeline.errors import PipelineError
from pipeline.vision.training.augment import build_augment
from pipeline.vision.training.augment.build import _BUILD

HFLIP = {"hflip": {"p": 0.5}}
VFLIP = {"vflip": {"p": 0.5}}
CROP = {"crop": {"padding": 3}}
AFFINE = {"affine": {"degrees": 30, "translate": 0.2, "scale": [0.7, 1.4], "shear": 20}}
COLOR = {"color": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2}}
NOISE = {"noise": {"std": 0.1}}
ERASE = {"erase": {"p": 0.7, "area": [0.1, 0.3]}}


def test_names_and_arguments_are_those_of_the_table():
    needed = needs((8, 8, 3))
    assert {name: frozenset(values) for name, values in needed.items()} == BATCH_AUGMENTATIONS
    assert set(_BUILD) == set(BATCH_AUGMENTATIONS)


@pytest.mark.parametrize(
    ("item", "changed", "message"),
    [
        (HFLIP, {"p": 1.5}, "p: got 1.5, need a number from 0 to 1"),
        (VFLIP, {"p": True}, "p: got True, need a number from 0 to 1"),
        (VFLIP, {"p": None}, "p: got None, need a number from 0 to 1"),
        (CROP, {"padding": 2.5}, "padding: got 2.5, need a whole number from 0 to 5"),
        (CROP, {"padding": 6}, "padding: got 6, need a whole number from 0 to 5"),
        (AFFINE, {"degrees": math.nan}, "degrees: got nan, need a number from 0 to 180"),
        (AFFINE, {"translate": "1"}, "translate: got 1, need a number from 0 to 0.5"),
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
        (ERASE, {"area": [0.1, "x"]}, "area: got [0.1, 'x'], need [low, high] with 0.001 <= low"),
    ],
)
def test_mistakes_say_where_and_what(item, changed, message):
    ((name, arguments),) = item.items()
    with pytest.raises(PipelineError) as caught:
        build_augment([HFLIP, NOISE, {name: {**arguments, **changed}}], (10, 12, 3))
    assert str(caught.value).startswith(f"augment[2].{name}.{message}")


def test_all_mistakes_come_together():
    with pytest.raises(PipelineError) as caught:
        build_augment([{"erase": {}}, {"noise": {"std": 7}}], (10, 12, 3))
    assert str(caught.value) == (
        "augment[0].erase.p: missing, add a number from 0 to 1;"
        " augment[0].erase.area: missing, add [low, high] with 0.001 <= low <= high <= 1;"
        " augment[1].noise.std: got 7, need a number from 0 to 1"
    )


def test_one_channel_has_no_saturation_and_no_hue():
    with pytest.raises(PipelineError) as caught:
        build_augment([COLOR], (10, 12, 1))
    assert str(caught.value) == (
        "augment[0].color.saturation: got 0.4, need 0, for the images have one channel;"
        " augment[0].color.hue: got 0.2, need 0, for the images have one channel"
    )
