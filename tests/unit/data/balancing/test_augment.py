import subprocess
import sys

import numpy as np
import pytest

from pipeline.data.balancing.augment import Augmenter
from pipeline.errors import PipelineError
from pipeline.params import parse
from pipeline.params.choices.transforms import TRANSFORMS, Policy

COLOUR_ONLY = {"HueSaturationValue", "ISONoise"}
NEEDED = {"CropAndPad": {"percent": [-0.1, 0.1]}}
POLICY = [
    {"Affine": {"rotate": [-20, 20], "p": 0.9}},
    {"Superimpose": {"weight": [0.1, 0.4], "p": 0.5}},
    {"RandomResizedCrop": {"scale": [0.6, 1.0], "p": 0.5}},
    {"GaussNoise": {"p": 0.5}},
]


def image(shape=(28, 28, 1), dtype=np.uint8, seed=0):
    high = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, high + 1, shape).astype(dtype)


def augmenter(policy, shape=(28, 28, 1)):
    return Augmenter(parse(Policy, policy), shape, "balance.policy")


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_transform_keeps_shape_and_type_and_repeats_itself(name, channels, dtype):
    if name in COLOUR_ONLY and channels == 1:
        pytest.skip("refused, see below")
    shape = (20, 30, channels)
    if name in {"RandomRotate90", "Transpose"}:
        shape = (20, 20, channels)
    one, two = (augmenter([{name: {**NEEDED.get(name, {}), "p": 1.0}}], shape) for _ in range(2))
    source, partner = image(shape, dtype), image(shape, dtype, seed=1)
    untouched = source.copy()
    for seed in (1, 2, 3, 2**32 - 1):
        made = one(source, partner, seed)
        assert made.shape == shape
        assert made.dtype == dtype
        assert (made == two(source, partner, seed)).all()
    assert (source == untouched).all()


def test_a_copy_depends_on_its_seed_and_not_on_what_was_made_before():
    one, two = augmenter(POLICY), augmenter(POLICY)
    forwards = [one(image(), image(seed=1), seed) for seed in range(20)]
    backwards = [two(image(), image(seed=1), seed) for seed in reversed(range(20))][::-1]
    for first, second in zip(forwards, backwards, strict=True):
        assert (first == second).all()
    assert len({made.tobytes() for made in forwards}) == 20


def test_another_process_makes_the_same_copies_and_does_not_import_torch():
    program = f"""
import hashlib, sys, numpy as np
from pipeline.data.balancing.augment import Augmenter
from pipeline.params import parse
from pipeline.params.choices.transforms import Policy
assert "albumentations" not in sys.modules
image = np.random.default_rng(0).integers(0, 256, (28, 28, 1)).astype(np.uint8)
policy = Augmenter(parse(Policy, {POLICY!r}), (28, 28, 1), "p")
made = b"".join(policy(image, image[::-1], seed).tobytes() for seed in range(10))
assert "torch" not in sys.modules
print(hashlib.sha256(made).hexdigest())
"""
    digests = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for _ in range(2)
    }
    assert len(digests) == 1


def test_superimposing_blends_by_a_weight_in_the_range():
    black, white = np.zeros((28, 28, 1), np.uint8), np.full((28, 28, 1), 255, np.uint8)
    blend = augmenter([{"Superimpose": {"weight": [0.2, 0.4], "p": 1.0}}])
    weights = [blend(black, white, seed).item(0) / 255 for seed in range(200)]
    assert all(blend(black, white, 5).ravel() == blend(black, white, 5).item(0))
    assert min(weights) == pytest.approx(0.2, abs=0.01)
    assert max(weights) == pytest.approx(0.4, abs=0.01)
    half = augmenter([{"Superimpose": {"weight": [0.5, 0.5], "p": 1.0}}])
    assert (half(black + 10, white, 0) == 132).all()  # 132.5, to even
    seldom = augmenter([{"Superimpose": {"weight": [1, 1], "p": 0.25}}])
    assert np.mean([seldom(black, white, seed).any() for seed in range(400)]) == pytest.approx(
        0.25, abs=0.06
    )


def test_16_bits_keep_their_depth():
    shades = np.arange(784, dtype=np.uint16).reshape(28, 28, 1) * 80
    made = augmenter([{"HorizontalFlip": {"p": 1.0}}])(shades, shades, 0)
    assert (made == shades[:, ::-1]).all()


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"ISONoise": {}}, r"ISONoise: needs colour, but pack\.channels is 1"),
        ({"HueSaturationValue": {}}, r"HueSaturationValue: needs colour, .*pack\.channels to 3"),
        (
            {"Rotate": {"fill": [1, 2, 3]}},
            r"Rotate\.fill: got 3 values, need one, or 1 for as many",
        ),
    ],
)
def test_what_does_not_suit_the_images_is_one_line_that_names_its_key(item, message):
    with pytest.raises(PipelineError, match=r"^balance\.policy\[1\]\." + message) as caught:
        augmenter([{"HorizontalFlip": {}}, item])
    assert "\n" not in str(caught.value)


def test_a_transform_that_fails_on_the_images_is_one_line():
    flat = augmenter([{"RandomResizedCrop": {"ratio": [300, 500], "p": 1.0}}])
    message = r"^balance\.policy: albumentations failed on images of 28x28x1: "
    with pytest.raises(PipelineError, match=message):
        flat(image(), image(), 0)


def test_a_policy_that_changes_the_size_is_refused():
    cropping = augmenter([{"CropAndPad": {"px": -4, "keep_size": False, "p": 1.0}}])
    message = r"^balance\.policy: .* 28x28x1 into 20x20x1; set keep_size: true"
    with pytest.raises(PipelineError, match=message):
        cropping(image(), image(), 0)
