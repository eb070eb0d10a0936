"""What params say of the transforms equals what the installed albumentations accepts."""

import inspect
import itertools
import subprocess
import sys
import warnings

import numpy as np
import pytest

from pipeline.data.balancing.augment import Augmenter, _albumentations
from pipeline.errors import PipelineError
from pipeline.params import MistakesError, misfits, parse
from pipeline.params.choices.transforms import TRANSFORMS, Policy

# Of masks and keypoints, which we do not have, and the size, which is that of the packed images.
NOT_OURS = {"fill_mask", "keypoint_remapping_method", "size"}
NAMES = sorted(set(TRANSFORMS) - {"Superimpose"})
NEEDED = {"CropAndPad": {"px": 1}}
SHAPE = (24, 24, 3)

NUMBERS = [-400, -1, -0.5, -0.2, 0, 0.0, 0.1, 0.5, 1, 1.0, 1.5, 2, 3, 4, 5, 6, 7, 8, 101, 361]
ENDS = [-1.5, -1, -0.3, 0, 0.2, 1, 1.5, 3, 4, 7]
PAIRS = [list(pair) for pair in itertools.product(ENDS, repeat=2)]
PAIRS += [[0, 360], [1, 100], [1, 101], [100, 500], [0.1, 361]]
AXES = [{"x": value} for value in (-1, 0, 0.2, 2, [-1, 1], [1, 2], [2, 1])]
AXES += [{"x": 1, "y": [1, 2]}, {}, {"z": 1}, {"x": 1, "z": 1}]
LISTS = [[], [1], [1, 2, 3], [1, 2, 3, 4], [[0, 1], 1, [1, 2], 0], [0.1, 0.1, 0.1, 0.1]]
WORDS = ["", "kernel", "gaussian", "uniform", "jpeg", "webp", "png", "largest_box", "ellipse"]
WORDS += ["random", "random_uniform", "inpaint_telea", "inpaint_ns", "image", "image_mask", "3"]
VALUES = [*NUMBERS, *PAIRS, *AXES, *LISTS, *WORDS, True, False, None]


def arguments_of(name):
    parameters = inspect.signature(getattr(_albumentations(), name).__init__).parameters
    return {p for p in parameters if p != "self" and not p.startswith("mask_")} - NOT_OURS


def params_take(item):
    try:
        return parse(Policy, [item])
    except MistakesError:
        return None


def albumentations_takes(name, arguments):
    size = {"size": SHAPE[:2]} if name == "RandomResizedCrop" else {}
    tuples = {key: as_tuple(value) for key, value in arguments.items()}
    try:
        with warnings.catch_warnings():
            # It warns of what it does not understand, and goes on without it.
            warnings.simplefilter("error")
            return getattr(_albumentations(), name)(**tuples, **size)
    except (ValueError, TypeError, UserWarning):
        return None


def as_tuple(value):
    if isinstance(value, dict):
        return {key: as_tuple(part) for key, part in value.items()}
    return tuple(map(as_tuple, value)) if isinstance(value, list) else value


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_those_of_albumentations(name):
    assert set(TRANSFORMS[name].model_fields) == arguments_of(name)


# What only images can show to be wrong: it leaves nothing of them, or changes their size.
FAILS_ON_IMAGES = {
    "CropAndPad.keep_size": [False],
    "CoarseDropout.hole_height_range": [[100, 500]],
    "CoarseDropout.hole_width_range": [[100, 500]],
    "CropAndPad.percent": [-400, [-1.5, -1.5], [-1.5, -1]],
    "CropAndPad.px": [-400],
    "GaussianBlur.sigma_limit": [0, 0.0, [0, 0]],
    "GridDistortion.distort_limit": [[-1, -1]],
    "GridDistortion.num_steps": [101, 361],
    "Perspective.keep_size": [False],
    "RandomResizedCrop.ratio": [[100, 500]],
    "Rotate.crop_border": [True],
    "ShotNoise.scale_range": [[0, 0]],
}


@pytest.mark.parametrize("name", NAMES)
def test_what_params_take_albumentations_takes_and_can_do(name):
    image = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    taken = set()
    for argument, value in itertools.product(sorted(arguments_of(name)), VALUES):
        arguments = {**NEEDED.get(name, {}), "p": 1.0, argument: value}
        if argument == "percent":
            del arguments["px"]
        if argument == "hole_width_range":  # both are shares, or both pixels
            arguments["hole_height_range"] = value
        policy = params_take({name: arguments})
        if policy is None or misfits(policy, SHAPE):
            continue
        taken.add(argument)
        assert albumentations_takes(name, arguments), (argument, value)
        if argument in ("percent", "px") and value in (101, 361):
            continue  # images of gigabytes
        try:
            Augmenter(policy, SHAPE, "policy")(image, image, 0)
        except PipelineError:
            assert value in FAILS_ON_IMAGES[f"{name}.{argument}"], (argument, value)
    assert taken == arguments_of(name)


@pytest.mark.parametrize(
    ("name", "argument", "good", "bad"),
    [
        ("Affine", "scale", {"x": [0.5, 2.0]}, {"z": 1.0}),
        ("Perspective", "scale", [0.1, 0.2], [-0.1, 0.2]),
        ("RandomResizedCrop", "scale", [0.1, 1.0], [0.1, 1.1]),
        ("CropAndPad", "px", [1, 2, 3, 4], [1, 2, 3]),
        ("ElasticTransform", "sigma", 1, 0.5),
        ("GridDistortion", "distort_limit", 1, 1.5),
        ("GaussNoise", "std_range", [0.0, 1.0], [2, 3]),
        ("GaussNoise", "noise_scale_factor", 1, 0),
        ("ISONoise", "color_shift", [0.1, 0.2], [0.1, 1.2]),
        ("RandomGamma", "gamma_limit", [1, 2], [0.5, 2]),
        ("ColorJitter", "hue", [-0.5, 0.5], [-0.6, 0.5]),
        ("GaussianBlur", "sigma_limit", [0, 2], [-1, 2]),
        ("MotionBlur", "blur_limit", [3, 7], [3, 6]),
        ("MotionBlur", "angle_range", [0, 360], [0, 361]),
        ("MedianBlur", "blur_limit", 5, 4),
        ("Sharpen", "method", "kernel", "box"),
        ("ImageCompression", "quality_range", [1, 100], [0, 100]),
        ("CoarseDropout", "num_holes_range", [1, 1], [0, 1]),
        ("CoarseDropout", "fill", "inpaint_ns", "inpaint"),
        ("HorizontalFlip", "p", 1, 1.5),
    ],
)
def test_what_albumentations_refuses_params_refuse(name, argument, good, bad):
    for value, taken in ((good, True), (bad, False)):
        assert (albumentations_takes(name, {argument: value}) is not None) == taken
        assert (params_take({name: {argument: value}}) is not None) == taken


def test_params_do_not_import_albumentations():
    code = "import sys, pipeline.params; assert 'albumentations' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
