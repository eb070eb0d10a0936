import numpy as np
import pytest

from pipeline.evaluation.latent.pixels import compare_with_pixels, pixel_vectors
from pipeline.evaluation.latent.search import unit
from pipeline.evaluation.metrics.intervals import paired_proportions


def test_the_cosine_is_the_correlation_of_the_pixels():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 20, 30, 3), np.uint8)
    images[2] = 90
    found = pixel_vectors(images)
    expected = np.corrcoef(images[0].ravel(), images[1].ravel())[0, 1]
    assert found[0] @ found[1] == pytest.approx(expected, abs=1e-6)
    assert not found[2].any()
    brighter = (images[:1] // 2 + 100).astype(np.uint16)
    assert pixel_vectors(brighter)[0] @ found[0] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("height", "width"), [(70, 100), (3, 90), (33, 33)])
def test_large_images_are_averaged(height, width):
    images = np.random.default_rng(0).integers(0, 256, (2, height, width, 1), np.uint8)
    side = -(-max(height, width) // 32)
    down = min(side, height)
    small = [
        [
            image[y * down : (y + 1) * down, x * side : (x + 1) * side].mean()
            for y in range(height // down)
            for x in range(width // side)
        ]
        for image in images
    ]
    expected = unit(np.array(small) - np.mean(small, axis=1, keepdims=True))
    np.testing.assert_allclose(pixel_vectors(images), expected, atol=1e-5)


def test_both_are_judged_on_the_same_images():
    classes, labels = np.eye(3, dtype=np.float32), np.arange(30) % 3
    shuffled = classes[(np.arange(30) // 3) % 3]
    block = compare_with_pixels(
        (classes, classes), np.arange(3), (classes[labels], shuffled), labels
    )
    assert block["latent"]["recall_at_1"]["value"] == 1.0
    right = int((shuffled.argmax(axis=1) == labels).sum())
    assert block["pixels"]["recall_at_1"]["value"] == right / 30
    difference = block["difference"]["recall_at_1"]
    assert difference["value"] == pytest.approx(1 - right / 30)
    assert (
        difference["ci95"]
        == paired_proportions(np.asarray(30 - right), np.asarray(0), np.asarray(30)).tolist()
    )
    precision = [block[name]["mean_average_precision"]["value"] for name in ("latent", "pixels")]
    # Of three images, the right one is first, or comes last among two equals.
    assert precision == pytest.approx([1.0, (right + (30 - right) / 3) / 30])
    assert block["difference"]["mean_average_precision"]["value"] == pytest.approx(
        precision[0] - precision[1]
    )
