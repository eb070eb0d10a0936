import cv2
import numpy as np
import pytest

from pipeline.evaluation.baseline import handcrafted

COVERED, HIGHER = "covered pixels", "higher part"


def features(image, channels=1):
    """Return one image's features by name."""
    values = handcrafted.extract([np.asarray(image).reshape(1, *np.shape(image)[:2], channels)])[0]
    return dict(zip(handcrafted.feature_names(channels), values.tolist(), strict=True))


def square(size=16, side=8, value=255):
    image = np.zeros((size, size), np.uint8)
    image[:side, :side] = value
    return image


def parcel(angle=0.0, height=300):
    """Draw a box of 40 x 20 px and `height` mm in the middle of 64 x 64 px."""
    y, x = np.indices((64, 64)) - 31.5
    turn = np.radians(angle)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    inside = (np.abs(along) <= 20) & (np.abs(across) <= 10)
    return inside.astype(np.uint16) * np.uint16(height)


def test_names_are_unique_and_match_the_columns():
    for channels in (1, 3):
        names = handcrafted.feature_names(channels)
        assert len(set(names)) == len(names)
        batch = np.zeros((2, 9, 7, channels), np.uint8)
        assert handcrafted.extract([batch]).shape == (2, len(names))
        assert handcrafted.extract([batch]).dtype == np.float32


def test_a_box_of_known_size_and_height_by_hand():
    found = features(parcel(height=300))
    one = 300 / 65535
    assert found["mean height of covered pixels"] == pytest.approx(one, rel=1e-5)
    assert found["spread of covered heights"] == pytest.approx(0, abs=1e-7)
    assert found["volume"] == pytest.approx(one * 800 / 4096, rel=1e-5)
    assert found["height quantile 0.05"] == pytest.approx(one, rel=1e-5)
    assert [found[f"height histogram {i}/8"] for i in range(1, 9)] == [0] * 7 + [1]
    expected = {
        "covered area": 800 / 4096,
        "number of parts": 1,
        "share of the largest part": 1,
        "share of holes": 0,
        # The contour joins the centres of border pixels: 39 and 19 px long, of 4 x 64 px.
        "perimeter": 2 * (39 + 19) / 256,
        "middle, x": 0.5,
        "middle, y": 0.5,
        "width of the upright box": 40 / 64,
        "height of the upright box": 20 / 64,
        "diagonal of the upright box": np.hypot(40, 20) / np.hypot(64, 64),
        "length of the rotated box": 40 / np.hypot(64, 64),
        "width of the rotated box": 20 / np.hypot(64, 64),
        "diagonal of the rotated box": np.hypot(40, 20) / np.hypot(64, 64),
        "width by length of the rotated box": 0.5,
        "share of the rotated box that is covered": 1,
        "outer contour by its convex hull": 1,
        "compactness": 4 * np.pi * 39 * 19 / (2 * (39 + 19)) ** 2,
        # Of a rectangle a x b, the first is (a / b + b / a) / 12 (Hu 1962); of pixels, nearly.
        "Hu moment 1": np.log10((2 + 0.5) / 12),
    }
    for name, value in expected.items():
        assert found[f"{name}, {COVERED}"] == pytest.approx(value, rel=0.01, abs=1e-4), name
    for line in ("first", "second"):
        length = found[f"covered length of the {line} diagonal of the rotated box"]
        assert length == pytest.approx(np.hypot(40, 20) / np.hypot(64, 64), rel=1e-5)
        for i in range(1, 9):
            at = f"height on the {line} diagonal of the rotated box, {i}/8"
            assert found[at] == pytest.approx(1)


def test_missing_pixels_count_neither_for_the_mean_nor_for_the_distribution():
    image = parcel()
    image[28:36, 25:35] = 0
    whole, holes = features(parcel()), features(image)
    for name in whole:
        if name.startswith(("mean height", "height quantile", "height histogram", "height along")):
            assert holes[name] == pytest.approx(whole[name], rel=1e-5), name
    assert holes[f"covered area, {COVERED}"] == pytest.approx(720 / 4096)
    # What is missing within the outer contour, by what is covered.
    assert holes[f"share of holes, {COVERED}"] == pytest.approx(80 / 720)
    assert holes[f"perimeter, {COVERED}"] > whole[f"perimeter, {COVERED}"]


def test_a_second_parcel_on_the_first_is_the_higher_part():
    image = parcel(height=100)
    image[26:36, 14:24] = 250
    found = features(image)
    assert found[f"covered area, {COVERED}"] == pytest.approx(800 / 4096)
    assert found[f"covered area, {HIGHER}"] == pytest.approx(100 / 4096)
    assert found[f"width of the upright box, {HIGHER}"] == pytest.approx(10 / 64)
    assert found["mean height of covered pixels"] == pytest.approx(
        (700 * 100 + 100 * 250) / 800 / 65535, rel=1e-5
    )


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_what_does_not_turn_with_the_image(turns):
    """The size of an object, its heights and its texture are the same in any quarter turn."""
    image = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 2000, (40, 40)).astype(np.float32), (0, 0), 3
    )
    image = np.where(image > 1000, image, 0).astype(np.uint16)
    first, second = features(image), features(np.rot90(image, turns).copy())
    names = [
        *(name for name in first if name.startswith(("mean height", "spread", "volume"))),
        *(name for name in first if name.startswith(("height quantile", "height histogram"))),
        *(
            f"{name}, {region}"
            for region in (COVERED, HIGHER)
            for name in ("covered area", "number of parts", "share of holes", "perimeter",
                "length of the rotated box", "width of the rotated box", "compactness",
                "diagonal of the rotated box", "outer contour by its convex hull",
                "diagonal of the upright box", *(f"Hu moment {i}" for i in range(1, 4)))
        ),
    ]  # fmt: skip
    for name in names:
        assert second[name] == pytest.approx(first[name], rel=2e-3, abs=2e-3), name


@pytest.mark.parametrize("angle", [15, 30, 60, 75])
def test_a_turned_parcel_keeps_its_size(angle):
    found = features(parcel(angle))
    assert found[f"length of the rotated box, {COVERED}"] == pytest.approx(
        40 / np.hypot(64, 64), rel=0.04
    )
    assert found[f"width of the rotated box, {COVERED}"] == pytest.approx(
        20 / np.hypot(64, 64), rel=0.06
    )
    for i in range(2, 8):
        assert found[f"height along the rotated box, {i}/8"] == pytest.approx(1, abs=0.02)


def test_places_in_the_image_by_hand():
    found = features(square())
    assert [found[f"row {i}/8"] for i in range(1, 9)] == pytest.approx([0.5] * 4 + [0] * 4)
    assert [found[f"column {i}/8"] for i in range(1, 9)] == pytest.approx([0.5] * 4 + [0] * 4)
    assert [found[f"falling diagonal {i}/8"] for i in range(1, 9)] == [1] * 4 + [0] * 4
    assert [found[f"rising diagonal {i}/8"] for i in range(1, 9)] == [0] * 8


def test_distribution_of_covered_values_equals_numpys():
    image = np.random.default_rng(0).integers(0, 256, (17, 16)).astype(np.uint8)
    image[:5] = 0
    found, heights = features(image), image[image > 0] / 255
    assert found["mean height of covered pixels"] == pytest.approx(heights.mean(), rel=1e-5)
    assert found["spread of covered heights"] == pytest.approx(heights.std(), rel=1e-5)
    for q in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert found[f"height quantile {q:g}"] == pytest.approx(np.quantile(heights, q), rel=1e-5)
    counts, _ = np.histogram(heights, 8, (0, heights.max()))
    expected = counts / len(heights)
    assert [found[f"height histogram {i}/8"] for i in range(1, 9)] == pytest.approx(expected)


def test_16_bits_and_8_bits_of_the_same_heights_agree():
    image = np.random.default_rng(0).integers(0, 256, (1, 12, 10, 1))
    eight = handcrafted.extract([image.astype(np.uint8)])
    sixteen = handcrafted.extract([(image * 257).astype(np.uint16)])
    np.testing.assert_allclose(sixteen, eight, atol=1e-5)


def test_millimetres_show_their_edges_and_their_texture():
    """Of 16 bits the lowest 9 are used: the same picture as one with all of its bits."""
    image = np.random.default_rng(0).integers(0, 512, (12, 10)).astype(np.uint16)
    low, full = features(image), features(image * np.uint16(128))
    for name in low:
        if name.startswith(("edges", "local pattern", "contrast", "Hu", "perimeter")):
            assert low[name] == pytest.approx(full[name], abs=1e-5), name


def test_edges_and_texture_of_stripes():
    found = features(np.tile(np.repeat(np.array([10, 250], np.uint8), 4), (32, 4)))
    steep = sum(v for n, v in found.items() if n.startswith(("edges at 0 ", "edges at 157.5")))
    assert steep == pytest.approx(sum(v for n, v in found.items() if n.startswith("edges")))
    assert steep > 1
    assert found["contrast at 90 deg"] == 0
    # One of four neighbours to the right differs, by all 7 levels.
    assert found["contrast at 0 deg"] == pytest.approx(49 * 7 / 31, rel=1e-3)
    assert sum(v for n, v in found.items() if n.startswith("local")) == pytest.approx(1)


def test_colours_by_hand():
    image = np.zeros((6, 6, 3), np.uint8)
    image[..., 1] = 255
    found = features(image, channels=3)
    assert [found[f"mean of {name}"] for name in ("red", "green", "blue")] == [0, 1, 0]
    # Green is hue 60 of 180: in the third of eight bins.
    assert found["hue 3/8, saturation 4/4"] == 1
    assert found["height quantile 0.5"] == pytest.approx(0.587)


def test_batches_do_not_matter():
    images = np.random.default_rng(0).integers(0, 256, (7, 12, 10, 3), dtype=np.uint8)
    whole = handcrafted.extract([images])
    np.testing.assert_allclose(handcrafted.extract([images[:3], images[3:]]), whole, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (37, 61)])
@pytest.mark.parametrize("fill", ["nothing", "constant", "noise"])
def test_any_size_gives_finite_features(shape, fill):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, shape) if fill == "noise" else np.full(shape, 128)
    image = np.zeros(shape) if fill == "nothing" else image
    assert all(np.isfinite(value) for value in features(image.astype(np.uint8)).values())
