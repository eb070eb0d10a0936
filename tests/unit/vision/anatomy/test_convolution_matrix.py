"""The matrix does to a flattened volume what torch's convolution does to the volume."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.errors import PipelineError
from pipeline.evaluation.plots import to_png
from pipeline.evaluation.plots.weight_matrix import MAX_SIDE, check_size, draw_weight_matrix
from pipeline.vision.anatomy.convolution_matrix import convolution_matrix

SHAPE = (4, 9, 8)
SETTINGS = list(
    product(
        ((3, 3), (2, 4)),  # kernel
        (1, (2, 3)),  # stride
        (0, 1, (3, 2)),  # padding
        (1, (2, 1)),  # dilation
        (1, 2, 4),  # groups
    )
)


@pytest.mark.parametrize("kernel", [(3, 3), (2, 4), (1, 1)])
def test_it_equals_torch_for_all_settings(kernel):
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups, bias=padding != 0)
        for _, stride, padding, dilation, groups in SETTINGS[: len(SETTINGS) // 2]
    ]
    layers += [nn.Conv2d(4, 2, kernel, padding=name, dilation=2) for name in ("same", "valid")]
    for layer in layers:
        volume = torch.randn(1, *SHAPE, dtype=torch.float64)
        found = convolution_matrix(layer, SHAPE)
        with torch.inference_mode():
            expected = layer.double()(volume)[0]
        assert found.outputs == expected.shape
        actual = found.matrix @ volume.numpy().ravel() + found.bias
        np.testing.assert_allclose(actual, expected.numpy().ravel(), rtol=0, atol=1e-6)
        flat = layer.weight.detach().numpy().ravel()
        assert np.array_equal(flat[found.places.data - 1], found.matrix.data)


def test_a_small_matrix_by_hand():
    layer = nn.Conv2d(1, 1, 2, bias=False)
    layer.weight = nn.Parameter(torch.tensor([[[[0.0, 2.0], [3.0, 4.0]]]]))
    found = convolution_matrix(layer, (1, 2, 3))
    assert found.places.toarray().tolist() == [[1, 2, 0, 3, 4, 0], [0, 1, 2, 0, 3, 4]]
    assert found.matrix.toarray().tolist() == [[0, 2, 0, 3, 4, 0], [0, 0, 2, 0, 3, 4]]
    assert found.matrix.nnz == 8  # the weight that happens to be 0 among them
    assert (found.weights, found.dense_weights, found.density) == (4, 12, 8 / 12)
    assert found.summary() == (
        "2 x 6 entries, of which 8 (66.67%) are weights, 4 different ones; a dense layer would have"
        " 12"
    )


def test_what_is_too_large_or_padded_otherwise_is_refused():
    with pytest.raises(PipelineError, match="limit is 20,000,000"):
        convolution_matrix(nn.Conv2d(64, 64, 3, padding=1), (64, 56, 56))
    with pytest.raises(PipelineError, match="pads with reflect"):
        convolution_matrix(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), (1, 4, 4))
    with pytest.raises(PipelineError, match=f"the limit of a picture is {MAX_SIDE:,}"):
        check_size(MAX_SIDE + 1, 3)


def test_one_weight_has_one_colour_in_the_picture():
    found = convolution_matrix(nn.Conv2d(1, 2, 3), (1, 5, 5))
    places = found.places.toarray()
    figure = draw_weight_matrix(places, found.weights, ("inputs", "outputs"), "title")
    (shown,) = figure.axes[0].images
    colours = shown.to_rgba(shown.get_array(), bytes=True)
    by_weight = {number: np.unique(colours[places == number], axis=0) for number in range(19)}
    assert all(len(one) == 1 for one in by_weight.values())
    assert len({tuple(one[0]) for one in by_weight.values()}) == 19
    assert to_png(figure)
