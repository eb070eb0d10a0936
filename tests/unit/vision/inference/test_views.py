import hashlib
import itertools
import json
import math
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter
from scipy import ndimage

from pipeline.data.balancing.augment import Augmenter
from pipeline.errors import PipelineError
from pipeline.params import parse
from pipeline.params.choices.transforms import Policy
from pipeline.params.choices.views import View, ViewItem
from pipeline.vision.bundle.inputs import Batch, Normalization
from pipeline.vision.inference import views as tta

POLICY = [
    {"Affine": {"rotate": [-20, 20], "translate_percent": [-0.1, 0.1], "p": 1.0}},
    {"RandomBrightnessContrast": {"brightness_limit": 0.2, "contrast_limit": 0.2, "p": 0.7}},
    {"GaussNoise": {"std_range": [0.02, 0.1], "p": 0.5}},
]


def batch(images, mean=0.0, std=1.0):
    """Make a batch of integers, n x height x width x channels; what is seen lies in [0, 1]."""
    channels = images.shape[3]
    shape = (1, channels, 1, 1)
    return Batch(images, Normalization(torch.full(shape, mean), torch.full(shape, std)))


def integers(*shape, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


VIEWS = TypeAdapter(tuple[View, ...])


def build_views(items, seed, shape):
    return tta.build_views(parse(tuple[View, ...], items), seed, shape)


def expand(items):
    """Expand as plain values, which a bundle carries."""
    found = tta.expand(parse(tuple[ViewItem, ...], items))
    return VIEWS.dump_python(tuple(found), mode="json")


def view_names(items):
    return tta.view_names(parse(tuple[View, ...], items))


def view(name, shape, seed=0, **arguments):
    (built,) = build_views([{name: arguments}], seed, shape)
    return built


def seen(name, images, **arguments):
    """Return what the network sees of the images: n x channels x height x width in [0, 1]."""
    return view(name, images.shape[1:], **arguments)(batch(images))


@pytest.fixture
def images():
    return integers(2, 6, 8, 3)


@pytest.fixture
def pixels(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2) / 255


def test_flips(images, pixels):
    assert torch.equal(seen("identity", images), pixels)
    assert torch.equal(seen("hflip", images), pixels.flip(3))
    assert torch.equal(seen("vflip", images), pixels.flip(2))


def test_shift_moves_right_and_down_and_repeats_the_border(images, pixels):
    # 0.25 of 8 px, and a third of 6 px: 2 px each.
    moved = seen("shift", images, x=0.25, y=1 / 3)
    torch.testing.assert_close(moved[:, :, 2:, 2:], pixels[:, :, :-2, :-2])
    torch.testing.assert_close(moved[:, :, 2:, 0], pixels[:, :, :-2, 0])
    torch.testing.assert_close(moved[:, :, 0, 2:], pixels[:, :, 0, :-2])


def test_shift_between_pixels_is_bilinear(images, pixels):
    moved = seen("shift", images, x=0.5 / 8, y=0.0)
    torch.testing.assert_close(moved[..., 1:], (pixels[..., 1:] + pixels[..., :-1]) / 2)


def test_quarter_turn_is_counter_clockwise():
    square = integers(1, 5, 5, 1)
    expected = torch.rot90(torch.from_numpy(square[..., 0]) / 255, 1, (1, 2))
    torch.testing.assert_close(
        seen("rotate", square, degrees=90)[:, 0], expected, rtol=0, atol=1e-5
    )


def test_half_turn_of_an_oblong_image(images, pixels):
    turned = seen("rotate", images, degrees=180)
    torch.testing.assert_close(turned, pixels.flip(2, 3), rtol=0, atol=1e-5)


def test_a_turn_keeps_forms_in_oblong_images():
    """A bright point goes where a turn in pixels takes it, not one in shares of the sides."""
    image = np.zeros((1, 21, 41, 1), np.uint8)
    image[0, 10, 30] = 255
    turned = seen("rotate", image, degrees=30)[0, 0]
    y, x = np.unravel_index(int(turned.argmax()), turned.shape)
    assert x - 20 == pytest.approx(10 * math.cos(math.radians(30)), abs=0.6)
    assert 10 - y == pytest.approx(10 * math.sin(math.radians(30)), abs=0.6)


def test_small_turn_equals_scipy():
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).random((24, 24)), 2)
    image = (smooth * 255).astype(np.uint8)
    turned = seen("rotate", image[None, ..., None], degrees=7)[0, 0].numpy()
    expected = ndimage.rotate(image / 255, 7, reshape=False, order=1, mode="nearest")
    np.testing.assert_allclose(turned, expected, atol=1e-4)


def test_scale_enlarges_about_the_middle():
    image = np.zeros((1, 8, 8, 1), np.uint8)
    image[:, 3:5, 3:5] = 255
    larger = seen("scale", image, factor=2.0)[0, 0]
    assert (larger[3:5, 3:5] == 1).all()
    assert float(larger.sum()) == pytest.approx(16.0, rel=0.01)
    assert seen("scale", image, factor=0.5).sum() < 4


@pytest.mark.parametrize(("x", "left"), [(-1.0, 0), (0.0, 2), (0.5, 3), (1.0, 4)])
@pytest.mark.parametrize(("y", "top"), [(-1.0, 0), (0.0, 1.5), (1.0, 3)])
def test_a_crop_is_the_window_at_its_place_enlarged(x, y, left, top):
    """Pillow resizes boxes whose edges lie between pixels, too."""
    image = integers(1, 6, 8, 1)
    found = seen("crop", image, share=0.5, x=x, y=y)[0, 0].numpy()
    window = Image.fromarray(image[0, :, :, 0].astype(np.float32)).transform(
        (8, 6), Image.Transform.EXTENT, (left, top, left + 4, top + 3), Image.Resampling.BILINEAR
    )
    # Pillow leaves out what samples beyond the image; the border is repeated here.
    inner = (slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(found[inner], np.asarray(window)[inner] / 255, atol=1e-5)


def test_a_crop_equals_opencv_with_its_border():
    image = integers(2, 20, 16, 3)
    found = seen("crop", image, share=0.75, x=-1.0, y=0.25).permute(0, 2, 3, 1).numpy()
    # The window is 12 x 15 px; a quarter of the way from the middle (2.5) to below (5) is 3.125.
    x, y = np.meshgrid(0.75 * (np.arange(16) + 0.5) - 0.5, 0.75 * (np.arange(20) + 0.5) + 2.625)
    for one, original in zip(found, image, strict=True):
        expected = cv2.remap(
            original.astype(np.float32) / 255,
            x.astype(np.float32),
            y.astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        # OpenCV rounds weights to a 32nd.
        np.testing.assert_allclose(one, expected, atol=0.04)
        assert np.abs(one - expected).mean() < 0.01


def test_the_whole_image_is_a_crop_and_a_middle_crop_is_a_scale(images, pixels):
    torch.testing.assert_close(seen("crop", images, share=1.0, x=1.0, y=-1.0), pixels)
    torch.testing.assert_close(
        seen("crop", images, share=0.8, x=0.0, y=0.0), seen("scale", images, factor=1.25)
    )


ITEMS = [
    {"identity": {}},
    {"shift": {"x": 0.1, "y": 0.1}},
    {"rotate": {"degrees": 5}},
    {"scale": {"factor": 1.1}},
    {"crop": {"share": 0.9, "x": 1, "y": 0}},
    {"hflip": {}},
    {"random": {"draws": 2, "policy": POLICY}},
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_views_keep_shape_and_memory_order_and_leave_the_images_alone(channels, dtype):
    images = integers(3, 12, 10, channels, dtype=dtype)
    before, given = images.copy(), batch(images)
    inputs = given.inputs.clone()
    for built in build_views(expand(ITEMS), 0, images.shape[1:]):
        found = built(given)
        assert found.shape == (3, channels, 12, 10)
        assert found.dtype == torch.float32
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert found.min() >= 0
        assert found.max() <= 1
    assert torch.equal(given.inputs, inputs)
    assert (images == before).all()


def test_deep_images_are_seen_as_shallow_ones():
    shallow = integers(2, 12, 10, 3)
    deep = shallow.astype(np.uint16) * 257
    for built in build_views(expand(ITEMS[:6]), 0, (12, 10, 3)):
        torch.testing.assert_close(built(batch(deep)), built(batch(shallow)))
    # Albumentations draws the same of them, up to how it computes.
    calm = [{"Affine": {"rotate": [-20, 20], "p": 1.0}}, {"HorizontalFlip": {"p": 0.5}}]
    for number in range(4):
        # The content differs, and so does its draw: ask the policy itself.
        policy = Augmenter(parse(Policy, calm), (12, 10, 3), "policy")
        ours = policy(deep[0], deep[0], number) / 65535
        np.testing.assert_allclose(ours, policy(shallow[0], shallow[0], number) / 255, atol=0.02)


def test_views_see_what_the_network_is_trained_on(images):
    """Normalizing before a warp is the same as after it, at the border too."""
    given = batch(images, mean=0.4, std=0.2)
    for built in build_views(expand(ITEMS), 0, images.shape[1:]):
        torch.testing.assert_close(built(given), (built(batch(images)) - 0.4) / 0.2)


def test_draws_are_those_of_the_policy_by_the_images_own_pixels():
    """What a draw depends on, spelt out: a change of it would change every model's answers."""
    images = integers(3, 16, 16, 1)
    second = view("random", (16, 16, 1), seed=7, draw=1, policy=POLICY)
    policy = Augmenter(parse(Policy, POLICY), (16, 16, 1), "policy")
    for image, found in zip(images, second(batch(images)), strict=True):
        content = hashlib.sha256(image.tobytes()).digest()
        number = int.from_bytes(hashlib.sha256(b"7:1:" + content).digest()[:4], "big")
        expected = policy(image, image, number)
        torch.testing.assert_close(found, torch.from_numpy(expected).permute(2, 0, 1) / 255)


def test_draws_do_not_depend_on_the_batch_its_order_or_the_process():
    images = integers(9, 16, 12, 3)
    views = build_views(expand(ITEMS), 0, (16, 12, 3))
    for built in views:
        together = built(batch(images))
        backwards = built(batch(images[::-1].copy()))
        assert torch.equal(together, backwards.flip(0))
        for row in range(9):
            assert torch.equal(built(batch(images[row : row + 1]))[0], together[row])
    anew = build_views(json.loads(json.dumps(expand(ITEMS))), 0, (16, 12, 3))
    for built, again in zip(views, anew, strict=True):
        assert torch.equal(built(batch(images)), again(batch(images)))


def test_threads_that_share_a_view_draw_as_one_does():
    built = view("random", (16, 16, 1), draw=0, policy=POLICY)
    batches = [integers(8, 16, 16, 1, seed=seed) for seed in range(12)]
    alone = [built(batch(images)) for images in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda images: built(batch(images)), batches))
    assert all(itertools.starmap(torch.equal, zip(alone, together, strict=True)))


def test_other_seeds_draws_and_pixels_draw_otherwise():
    image = integers(1, 16, 16, 1)
    drawn = [
        view("random", (16, 16, 1), seed=seed, draw=draw, policy=POLICY)(batch(image))
        for seed, draw in ((0, 0), (0, 1), (1, 0))
    ]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(drawn, 2))
    # The same move for images that differ in one pixel would show as a difference in few places.
    other = image.copy()
    other[0, 0, 0] ^= 1
    moved = view("random", (16, 16, 1), draw=0, policy=POLICY)(batch(other))
    assert (moved != drawn[0]).float().mean() > 0.5


def test_a_policy_that_does_nothing_is_the_identity(images, pixels):
    nothing = [{"HorizontalFlip": {"p": 0.0}}]
    assert torch.equal(seen("random", images, draw=0, policy=nothing), pixels)


def test_expanded_draws_are_numbered_throughout():
    other = [{"HorizontalFlip": {}}]
    items = [
        {"random": {"draws": 2, "policy": POLICY}},
        {"rotate": {"degrees": 7}},
        {"random": {"draws": 1, "policy": other}},
    ]
    assert expand(items) == [
        {"random": {"draw": 0, "policy": POLICY}},
        {"random": {"draw": 1, "policy": POLICY}},
        {"rotate": {"degrees": 7}},
        {"random": {"draw": 2, "policy": other}},
    ]
    assert view_names(expand(items)) == ["random 1", "random 2", "rotate 7", "random 3"]


def test_names_for_people():
    items = [
        {"identity": {}},
        {"shift": {"y": 0.05, "x": -0.1}},
        {"rotate": {"degrees": 7}},
        {"crop": {"x": 1, "y": -1, "share": 0.9}},
    ]
    names = ["identity", "shift -0.1, 0.05", "rotate 7", "crop 0.9, 1, -1"]
    assert view_names(items) == names


def test_a_policy_that_does_not_suit_the_images():
    with pytest.raises(PipelineError, match=r"^the view 'random 3': policy\[0\]\.ISONoise: needs"):
        view("random", (8, 8, 1), draw=2, policy=[{"ISONoise": {}}])
