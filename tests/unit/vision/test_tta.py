import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from pipeline.errors import PipelineError
from pipeline.params._augmentations import VIEWS
from pipeline.vision import tta
from pipeline.vision.tta import build_views, view_names


@pytest.fixture
def images():
    return torch.from_numpy(np.random.default_rng(0).random((2, 3, 6, 8), dtype=np.float32))


def view(name, **arguments):
    (built,) = build_views([{name: arguments}])
    return built


def test_every_view_of_the_params_exists():
    assert set(tta._VIEWS) == set(VIEWS)
    assert {name: frozenset(bounds) for name, bounds in tta._BOUNDS.items()} == {
        name: arguments for name, arguments in VIEWS.items() if arguments
    }


def test_flips(images):
    torch.testing.assert_close(view("identity")(images), images, rtol=0, atol=0)
    assert torch.equal(view("hflip")(images), images.flip(3))
    assert torch.equal(view("vflip")(images), images.flip(2))


def test_shift_moves_right_and_down_and_repeats_the_border(images):
    # 0.25 of 8 px, and a third of 6 px: 2 px each.
    moved = view("shift", x=0.25, y=1 / 3)(images)
    torch.testing.assert_close(moved[:, :, 2:, 2:], images[:, :, :-2, :-2])
    torch.testing.assert_close(moved[:, :, 2:, 0], images[:, :, :-2, 0])
    torch.testing.assert_close(moved[:, :, 0, 2:], images[:, :, 0, :-2])


def test_shift_between_pixels_is_bilinear(images):
    moved = view("shift", x=0.5 / 8, y=0.0)(images)
    expected = (images[..., 1:] + images[..., :-1]) / 2
    torch.testing.assert_close(moved[..., 1:], expected)


def test_quarter_turn_is_counter_clockwise():
    square = torch.from_numpy(np.random.default_rng(0).random((1, 1, 5, 5), dtype=np.float32))
    turned = view("rotate", degrees=90)(square)
    torch.testing.assert_close(turned, torch.rot90(square, 1, (2, 3)), rtol=0, atol=1e-5)


def test_half_turn_of_an_oblong_image(images):
    turned = view("rotate", degrees=180)(images)
    torch.testing.assert_close(turned, images.flip(2, 3), rtol=0, atol=1e-5)


def test_a_turn_keeps_forms_in_oblong_images():
    """A bright point goes where a turn in pixels takes it, not one in shares of the sides."""
    image = torch.zeros(1, 1, 21, 41)
    image[0, 0, 10, 30] = 1.0
    turned = view("rotate", degrees=30)(image)[0, 0]
    y, x = np.unravel_index(int(turned.argmax()), turned.shape)
    assert x - 20 == pytest.approx(10 * math.cos(math.radians(30)), abs=0.6)
    assert 10 - y == pytest.approx(10 * math.sin(math.radians(30)), abs=0.6)


def test_small_turn_equals_scipy():
    image = ndimage.gaussian_filter(np.random.default_rng(0).random((24, 24)), 2).astype(np.float32)
    turned = view("rotate", degrees=7)(torch.from_numpy(image)[None, None])[0, 0].numpy()
    expected = ndimage.rotate(image, 7, reshape=False, order=1, mode="nearest")
    np.testing.assert_allclose(turned, expected, atol=1e-4)


def test_scale_enlarges_about_the_middle():
    image = torch.zeros(1, 1, 8, 8)
    image[..., 3:5, 3:5] = 1.0
    larger = view("scale", factor=2.0)(image)[0, 0]
    assert (larger[3:5, 3:5] == 1).all()
    assert float(larger.sum()) == pytest.approx(16.0, rel=0.01)
    assert view("scale", factor=0.5)(image).sum() < image.sum()


def test_views_keep_shape_dtype_and_gradient_free_input(images):
    before = images.clone()
    for built in build_views(
        [{"shift": {"x": 0.1, "y": 0.1}}, {"rotate": {"degrees": 5}}, {"scale": {"factor": 1.1}}]
    ):
        assert built(images).shape == images.shape
        assert built(images).dtype == images.dtype
    assert torch.equal(images, before)


def test_names_for_people():
    items = [{"identity": {}}, {"shift": {"y": 0.05, "x": -0.1}}, {"rotate": {"degrees": 7}}]
    assert view_names(items) == ["identity", "shift -0.1, 0.05", "rotate 7"]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"shift": {"x": 0.1}}, r"^tta\.views\[1\]\.shift\.y: missing, add a number from -0\.5"),
        ({"rotate": {"degrees": 200}}, r"rotate\.degrees: got 200, need a number from -180 to 180"),
        ({"rotate": {"degrees": "7"}}, r"rotate\.degrees: got 7, need a number"),
        ({"scale": {"factor": 0}}, r"scale\.factor: got 0, need a number from 0\.25 to 4"),
        ({"scale": {"factor": True}}, r"scale\.factor: got True, need a number"),
        ({"shift": {"x": math.nan, "y": 0.0}}, r"shift\.x: got nan, need a number"),
    ],
)
def test_wrong_arguments(item, message):
    with pytest.raises(PipelineError, match=message):
        build_views([{"identity": {}}, item])
