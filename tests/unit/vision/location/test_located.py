"""Networks that are made by hand, so that where they look is known."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.errors import PipelineError
from pipeline.vision.bundle.description import Description
from pipeline.vision.inference.bundle import load_bundle
from pipeline.vision.inference.predict import probabilities
from pipeline.vision.location import located
from pipeline.vision.location.class_maps import ClassMaps
from pipeline.vision.location.located import WholeImages, locate
from tests.bundles import save_bundle

SIDE = 16
POOL = {"kind": "average", "size": SIDE, "stride": 1}  # of the whole map, once
CLASSES = ("lamp", "night")
POOLED = {"blocks": [{"filters": 1, "kernel": 1, "pool": POOL}]}
DENSE = {
    "blocks": [{"filters": 4, "kernel": 3, "padding": "valid", "pool": {"kind": "max", "size": 2}}],
    "dense": [{"units": 6}],
}


def bundle_of(args, by_hand, temperature=1.0):
    preprocessing = Preprocessing(SIDE, SIDE, 1, "pad", 0, 8)
    description = Description(
        "plain", args, CLASSES, preprocessing, (0.0,), (1.0,), temperature=temperature
    )
    torch.manual_seed(0)
    weights = description.build().state_dict()
    if by_hand:  # the map of 'lamp' is the brightness, and that of 'night' its opposite
        weights = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
        weights["extractor.conv1.weight"] += 1.0
        weights["head.weight"] += torch.tensor([[1.0], [-1.0]])
    save_bundle(Path("models/final"), description, weights)
    return load_bundle(Path("models/final"))


def maps_of(bundle):
    return ClassMaps(bundle.network, bundle.description.shape)


def lamp(height, width, box):
    x, y, w, h = box
    pixels = np.zeros((height, width, 1), np.uint8)
    pixels[y : y + h, x : x + w] = 255
    return pixels


def test_a_box_is_in_pixels_of_the_file():
    bundle = bundle_of(POOLED, by_hand=True)
    # 40 x 80 px are padded to a square of 16: eight rows, a fifth of the size.
    pixels = lamp(40, 80, (20, 10, 30, 20))
    found = locate(bundle, maps_of(bundle), pixels, (40, 80), asked=None, threshold=0.5)
    assert CLASSES[found.label] == "lamp"
    assert found.frame == (4, 6, 6, 4)
    assert found.box == (20, 10, 30, 20)
    # A file twice as large of which half the pixels were decoded.
    found = locate(bundle, maps_of(bundle), pixels, (80, 160), asked=None, threshold=0.5)
    assert found.box == (40, 20, 60, 40)
    night = locate(bundle, maps_of(bundle), pixels, (40, 80), asked=1, threshold=0.5)
    assert night.box is None
    assert night.probability == pytest.approx(1 - found.probability)


def test_a_large_image_keeps_its_resolution():
    bundle = bundle_of(POOLED, by_hand=True)
    maps = maps_of(bundle)
    found = WholeImages(bundle, maps).locate(
        lamp(50, 70, (30, 20, 25, 18)), asked=None, threshold=0.5
    )
    assert found.method == "cam"
    assert found.box == (30, 20, 25, 18)
    # Some window sees nothing but the lamp.
    assert found.probability == pytest.approx(1 / (1 + np.exp(-2)))


def test_dense_heads_give_the_posterior_of_each_window():
    bundle = bundle_of(DENSE, by_hand=False, temperature=2.0)
    maps = maps_of(bundle)
    assert maps.method == "layercam"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 1), np.uint8)
    whole = WholeImages(bundle, maps)
    posteriors, _ = whole.look(bundle.normalize(pixels[None]))
    corners = [(top, left) for top in range(0, 25, 2) for left in range(0, 15, 2)]
    windows = np.stack([pixels[t : t + SIDE, n : n + SIDE] for t, n in corners])
    expected = probabilities(bundle, [windows]).T.reshape(2, 13, 8)
    np.testing.assert_allclose(posteriors, expected, atol=1e-5)
    found = whole.locate(pixels, asked=None, threshold=0.5)
    best = np.unravel_index(expected.argmax(), expected.shape)
    assert (found.method, found.label) == ("windows", best[0])
    assert found.probability == pytest.approx(expected.max(), abs=1e-5)
    # The map shows the posterior of each window in its middle, smoothed by the interpolation.
    middles = found.heights[7:33, 7:23].reshape(13, 2, 8, 2).mean(axis=(1, 3))
    assert np.corrcoef(middles.ravel(), expected[best[0]].ravel())[0, 1] > 0.9
    assert np.count_nonzero(found.heights) == 26 * 16


def test_images_that_are_too_small_or_too_large_are_refused(monkeypatch):
    bundle = bundle_of(POOLED, by_hand=True)
    whole = WholeImages(bundle, maps_of(bundle))
    with pytest.raises(PipelineError, match=r"15 x 40 px are less than the 16 x 16 .* leave out"):
        whole.locate(lamp(40, 15, (0, 0, 1, 1)), asked=None, threshold=0.5)
    monkeypatch.setattr(located, "MOST_PIXELS", 1000)
    with pytest.raises(PipelineError, match=r"30 x 40 px are too many .* takes 1000; cut"):
        whole.locate(lamp(40, 30, (0, 0, 1, 1)), asked=None, threshold=0.5)
