import numpy as np
import pytest

from pipeline.evaluation.baseline._texture import (
    cooccurrence,
    gradient_histogram,
    local_binary_patterns,
)


def named(feature, image):
    values = feature(np.asarray(image, np.float32)[None])[0]
    return dict(zip(feature.names, values.tolist(), strict=True))


def naive_cooccurrence(level, down, right):
    matrix = np.zeros((8, 8))
    height, width = level.shape
    for y in range(height):
        for x in range(width):
            if 0 <= y + down < height and 0 <= x + right < width:
                matrix[level[y, x], level[y + down, x + right]] += 1
    return matrix / matrix.sum()


@pytest.mark.parametrize(
    ("angle", "step"), [(0, (0, 1)), (45, (1, 1)), (90, (1, 0)), (135, (1, -1))]
)
def test_cooccurrence_equals_a_loop_over_pixels(angle, step):
    image = np.random.default_rng(0).random((9, 7))
    share = naive_cooccurrence((image * 8).astype(int), *step)
    i, j = np.indices((8, 8))
    found = named(cooccurrence, image)
    assert found[f"contrast at {angle} deg"] == pytest.approx((share * (i - j) ** 2).sum() / 49)
    assert found[f"homogeneity at {angle} deg"] == pytest.approx((share / (1 + (i - j) ** 2)).sum())
    assert found[f"energy at {angle} deg"] == pytest.approx(np.sqrt((share**2).sum()))
    mean_i, mean_j = (share * i).sum(), (share * j).sum()
    spread = np.sqrt((share * (i - mean_i) ** 2).sum() * (share * (j - mean_j) ** 2).sum())
    expected = (share * (i - mean_i) * (j - mean_j)).sum() / spread
    assert found[f"correlation at {angle} deg"] == pytest.approx(expected, abs=1e-5)


def test_stripes_have_contrast_across_and_none_along():
    found = named(cooccurrence, np.tile([0.0, 1.0], (8, 4)))
    assert found["contrast at 0 deg"] == pytest.approx(1)
    assert found["contrast at 90 deg"] == 0
    assert found["correlation at 0 deg"] == pytest.approx(-1)


def test_a_constant_image_follows_itself():
    found = named(cooccurrence, np.full((4, 4), 0.5))
    assert found["correlation at 0 deg"] == found["energy at 0 deg"] == 1


def naive_pattern(image, y, x):
    ring = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    height, width = image.shape
    higher = [
        image[min(max(y + a, 0), height - 1), min(max(x + b, 0), width - 1)] >= image[y, x]
        for a, b in ring
    ]
    changes = sum(higher[i] != higher[i - 1] for i in range(8))
    return sum(higher) if changes <= 2 else 9


def test_local_patterns_equal_a_loop_over_pixels():
    image = np.random.default_rng(0).random((6, 8)).astype(np.float32)
    counts = np.bincount(
        [naive_pattern(image, y, x) for y in range(6) for x in range(8)], minlength=10
    )
    np.testing.assert_allclose(local_binary_patterns(image[None])[0], counts / 48, rtol=1e-6)


def test_local_patterns_do_not_turn_with_the_image():
    image = np.random.default_rng(0).random((8, 8)).astype(np.float32)
    np.testing.assert_allclose(
        local_binary_patterns(np.rot90(image).copy()[None]), local_binary_patterns(image[None])
    )


def test_gradients_of_stripes_point_across_them():
    upright = np.tile(np.repeat([0.0, 1.0], 4), (16, 2))
    found = named(gradient_histogram, upright)
    assert all(value == 0 for name, value in found.items() if not name.startswith("gradient 0 "))
    lying = named(gradient_histogram, upright.T)
    assert all(value == 0 for name, value in lying.items() if not name.startswith("gradient 90 "))


def test_gradient_histogram_has_unit_length():
    image = np.random.default_rng(0).random((1, 16, 16)).astype(np.float32)
    assert np.linalg.norm(gradient_histogram(image)) == pytest.approx(1, abs=1e-4)
