import numpy as np
import pytest

from pipeline.evaluation.baseline import handcrafted


def features(image, channels=1):
    """Return one image's features by name."""
    values = handcrafted.extract([np.asarray(image).reshape(1, *np.shape(image)[:2], channels)])[0]
    return dict(zip(handcrafted.feature_names(channels), values.tolist(), strict=True))


def square(size=16, side=8, value=255):
    image = np.zeros((size, size), np.uint8)
    image[:side, :side] = value
    return image


def test_names_are_unique_and_match_the_columns():
    for channels in (1, 3):
        names = handcrafted.feature_names(channels)
        assert len(set(names)) == len(names)
        batch = np.zeros((2, 9, 7, channels), np.uint8)
        assert handcrafted.extract([batch]).shape == (2, len(names))
        assert handcrafted.extract([batch]).dtype == np.float32


def test_form_of_a_square_by_hand():
    found = features(square())
    assert found["covered area"] == pytest.approx(1 / 4)
    assert found["mean of channel 0"] == pytest.approx(1 / 4)
    assert found["spread of channel 0"] == pytest.approx(np.sqrt(3 / 16))
    # The contour joins the centres of border pixels: 4 x 7 of 64 px.
    assert found["perimeter"] == pytest.approx(4 * 7 / 64)
    assert [found[f"row {i}/8"] for i in range(1, 9)] == pytest.approx([0.5] * 4 + [0] * 4)
    assert [found[f"column {i}/8"] for i in range(1, 9)] == pytest.approx([0.5] * 4 + [0] * 4)
    assert [found[f"falling diagonal {i}/8"] for i in range(1, 9)] == [1] * 4 + [0] * 4
    assert [found[f"rising diagonal {i}/8"] for i in range(1, 9)] == [0] * 8


def test_distribution_of_values_by_hand():
    found = features(np.linspace(0, 255, 256).astype(np.uint8).reshape(16, 16))
    for i in range(1, 9):
        assert found[f"height histogram {i}/8"] == pytest.approx(1 / 8, abs=1 / 128)
    assert found["height quantile 0.25"] == pytest.approx(0.25, abs=0.01)


def test_a_hole_lengthens_the_perimeter():
    ring = square(20, 12)
    ring[4:8, 4:8] = 0
    assert features(ring)["perimeter"] > features(square(20, 12))["perimeter"]


def test_16_bits_and_8_bits_of_the_same_heights_agree():
    image = np.random.default_rng(0).integers(0, 256, (1, 12, 10, 1))
    eight = handcrafted.extract([image.astype(np.uint8)])
    sixteen = handcrafted.extract([(image * 257).astype(np.uint16)])
    np.testing.assert_allclose(sixteen, eight, atol=1e-5)


def test_colours_keep_their_means():
    image = np.zeros((6, 6, 3), np.uint8)
    image[..., 1] = 255
    found = features(image, channels=3)
    assert [found[f"mean of channel {c}"] for c in range(3)] == [0, 1, 0]
    assert found["height quantile 0.5"] == pytest.approx(0.587)


def test_batches_do_not_matter():
    images = np.random.default_rng(0).integers(0, 256, (7, 12, 10, 3), dtype=np.uint8)
    whole = handcrafted.extract([images])
    np.testing.assert_allclose(handcrafted.extract([images[:3], images[3:]]), whole, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (37, 61)])
@pytest.mark.parametrize("fill", ["constant", "noise"])
def test_any_size_gives_finite_features(shape, fill):
    rng = np.random.default_rng(0)
    image = np.full(shape, 128, np.uint8) if fill == "constant" else rng.integers(0, 256, shape)
    assert all(np.isfinite(value) for value in features(image.astype(np.uint8)).values())
