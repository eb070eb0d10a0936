"""Filters and activations, and how they are drawn."""

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.evaluation.plots import to_png
from pipeline.evaluation.plots.network import draw_activations, draw_filters
from pipeline.vision.anatomy.activations import activations, first_filters


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 20, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 4, 3),
        nn.Flatten(),
        nn.Linear(16, 2),
    ).eval()


def test_of_equal_volumes_the_last_is_kept(network):
    image = torch.randn(1, 3, 10, 10)
    found = activations(network, image, layers=8, maps=6)
    assert [(one.name, one.maps.shape, one.channels) for one in found] == [
        ("1", (6, 8, 8), 20),
        ("2", (6, 4, 4), 20),
        ("3", (4, 2, 2), 4),
    ]
    with torch.inference_mode():
        expected = network[:2](image)[0].numpy()
    order = np.argsort(-expected.std(axis=(1, 2)))[:6]
    np.testing.assert_allclose(found[0].maps, expected[order], atol=1e-6)
    assert [one.name for one in activations(network, image, layers=2, maps=6)] == ["1", "3"]


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_hold_every_filter_and_map(network, channels):
    name, filters = first_filters(network)
    assert (name, filters.shape) == ("0", (20, 3, 3, 3))
    figure = draw_filters(name, filters[:, :channels])
    assert len(figure.axes) == 20
    assert to_png(figure)
    image = np.zeros((10, 10, channels), np.uint8)
    layers = [("a", np.zeros((5, 4, 8), np.float32), 9), ("b", np.ones((3, 2, 2), np.float32), 3)]
    figure = draw_activations(image, "ants $x", "ants/1.png", layers)
    assert len(figure.axes) == 1 + 5 + 3
    texts = [text.get_text() for text in figure.texts]
    assert texts[1] == "a: 9 maps of 4 x 8, the 5 that vary most; 0 to 0"
    assert to_png(figure)
