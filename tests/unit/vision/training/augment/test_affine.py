import math

import cv2
import numpy as np
import pytest
import torch

from pipeline.vision.training.augment.affine import inverse_affine
from tests.augmentations import AFFINE, build_augment, draw


def smooth(count, channels, height, width):
    """Make pictures without edges, on which interpolations agree."""
    rng = np.random.default_rng(1)
    noise = rng.random((count, channels, height, width), dtype=np.float32)
    blurred = np.stack([[cv2.GaussianBlur(c, (0, 0), 3) for c in image] for image in noise])
    return torch.from_numpy((blurred - blurred.min()) / (blurred.max() - blurred.min()))


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
