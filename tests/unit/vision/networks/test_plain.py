from typing import get_args

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from torch import nn
from torch.nn import functional

from pipeline.errors import PipelineError
from pipeline.params.choices.networks import Activation, Pool
from pipeline.vision.networks import build_network, count_parameters
from pipeline.vision.networks.plain import ACTIVATIONS, POOLS


def plain(shape=(1, 28, 28), classes=10, **args):
    return build_network("plain", args, shape, classes)


def parameters_by_layer(network):
    return [
        sum(p.numel() for p in module.parameters())
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]


def test_lenet5_layer_by_layer():
    network = build_network("lenet5", {}, (1, 28, 28), 10)
    assert parameters_by_layer(network) == [156, 2416, 48120, 10164, 850]
    assert count_parameters(network) == 61_706


def test_lenet5_computes_what_its_paper_draws():
    network = build_network("lenet5", {}, (1, 28, 28), 10).eval()
    weights = network.state_dict()

    def convolve(x, name, **how):
        y = functional.conv2d(
            x, weights[f"extractor.{name}.weight"], weights[f"extractor.{name}.bias"], **how
        )
        return functional.max_pool2d(y.relu(), 2)

    images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    x = convolve(convolve(images, "conv1", padding=2), "conv2").flatten(1)
    for name in ("fc1", "fc2"):
        x = (x @ weights[f"extractor.{name}.weight"].T + weights[f"extractor.{name}.bias"]).relu()
    expected = x @ weights["head.weight"].T + weights["head.bias"]
    assert torch.allclose(network(images), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 32, 32), (5, 28, 40)])
def test_lenet5_takes_any_image_that_fits(shape):
    network = build_network("lenet5", {}, shape, 4).eval()
    assert network(torch.zeros(2, *shape)).shape == (2, 4)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("padding", ["valid", "same", "full"])
def test_sizes_after_a_block(padding, kernel, stride):
    """valid, same and full, as Dumoulin and Visin 2016 count them."""
    block = {"filters": 2, "kernel": kernel, "stride": stride, "padding": padding}
    network = plain((1, 11, 8), 3, blocks=[block])
    rows, columns = (
        len(
            {
                "valid": range(0, n - kernel + 1, stride),
                "same": range(0, n, stride),
                "full": range(0, n + kernel - 1, stride),
            }[padding]
        )
        for n in (11, 8)
    )
    assert network.head.in_features == 2 * rows * columns
    assert network.extractor(torch.zeros(1, 1, 11, 8)).shape == (1, 2 * rows * columns)


@pytest.mark.parametrize("kernel", [2, 3, 4])
@pytest.mark.parametrize("padding", ["valid", "full"])
def test_a_block_correlates(padding, kernel):
    block = {"filters": 1, "kernel": kernel, "padding": padding, "activation": "none"}
    network = plain((1, 6, 7), 2, blocks=[block])
    image = np.random.default_rng(0).normal(size=(6, 7)).astype(np.float32)
    expected = correlate2d(image, network.extractor.conv1.weight[0, 0].detach().numpy(), padding)
    found = network.extractor(torch.from_numpy(image)[None, None])
    assert np.allclose(found.detach().numpy().ravel(), expected.ravel(), atol=1e-5)


def test_an_even_kernel_is_padded_after_rather_than_before():
    block = {"filters": 1, "kernel": 2, "padding": "same", "activation": "none"}
    network = plain((1, 2, 2), 2, blocks=[block])
    nn.init.ones_(network.extractor.conv1.weight)
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert network.extractor(image).flatten().tolist() == [10.0, 6.0, 7.0, 4.0]


@pytest.mark.parametrize(
    ("kind", "expected"), [("max", [12, 14, 22, 24]), ("average", [6, 8, 16, 18])]
)
def test_pools_may_overlap(kind, expected):
    block = {"filters": 1, "kernel": 1, "pool": {"kind": kind, "size": 3, "stride": 2}}
    network = plain((1, 5, 5), 2, blocks=[block])
    nn.init.ones_(network.extractor.conv1.weight)
    image = torch.arange(25.0).reshape(1, 1, 5, 5)
    assert network.extractor(image).flatten().tolist() == expected


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("relu", [0.0, 0.0, 2.0]),
        ("leaky_relu", [-0.02, 0.0, 2.0]),
        ("tanh", [-0.96402758, 0.0, 0.96402758]),
        ("sigmoid", [0.11920292, 0.5, 0.88079708]),
        ("none", [-2.0, 0.0, 2.0]),
    ],
)
def test_activations(activation, expected):
    block = {"filters": 1, "kernel": 1, "activation": activation}
    network = plain((1, 1, 3), 2, blocks=[block])
    nn.init.ones_(network.extractor.conv1.weight)
    found = network.extractor(torch.tensor([[[[-2.0, 0.0, 2.0]]]]))[0]
    assert torch.allclose(found, torch.tensor(expected))


def test_a_batch_norm_takes_the_place_of_the_bias():
    network = plain((3, 8, 8), 2, blocks=[{"filters": 4, "kernel": 3, "batch_norm": True}])
    names = [name for name, _ in network.extractor.named_children()]
    assert names == ["conv1", "bn1", "activation1", "flatten"]
    assert network.extractor.conv1.bias is None
    assert parameters_by_layer(network)[0] == 4 * 3 * 9
    assert count_parameters(network.extractor.bn1) == 8


def test_dense_layers_and_dropout():
    network = plain((1, 4, 4), 3, blocks=[], dense=[{"units": 5, "dropout": 0.25}, {"units": 6}])
    assert parameters_by_layer(network) == [16 * 5 + 5, 5 * 6 + 6, 6 * 3 + 3]
    assert network.extractor.dropout1.p == 0.25
    assert network.extractor.dropout2.p == 0.0


def test_a_linear_classifier_is_the_plainest_network():
    network = plain((1, 4, 4), 3, blocks=[])
    assert count_parameters(network) == 16 * 3 + 3


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
def test_twenty_layers_keep_the_scale_of_activations(activation):
    torch.manual_seed(0)
    blocks = [{"filters": 32, "kernel": 3, "activation": activation}] * 20
    network = plain((3, 8, 8), 2, blocks=blocks)
    images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        square = network.extractor(images).square().mean().item()
    assert 0.02 < square < 2.0  # zeros around 8 px take some away; torch's own draw leaves 1e-8


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({}, r"model\.args\.blocks: missing, add it"),
        ({"blocks": 3}, r"model\.args\.blocks: got 3, need a list"),
        ({"blocks": [], "densee": []}, r"model\.args\.densee: unknown key, did you mean dense\?"),
        (
            {"blocks": [{"filters": 4, "kernel": 3}, {"filters": 4, "kernl": 3}]},
            r"blocks\[1\]\.kernel: missing.*"
            r"blocks\[1\]\.kernl: unknown key, did you mean kernel\?",
        ),
        (
            {"blocks": [{"filters": 0, "kernel": 3}]},
            r"blocks\[0\]\.filters: got 0, need a whole number of at least 1",
        ),
        (
            {"blocks": [{"filters": 1, "kernel": 3, "padding": "half"}]},
            r"padding: got \"half\", need valid, same or full",
        ),
        (
            {"blocks": [{"filters": 1, "kernel": 3, "activation": "swish"}]},
            r"got \"swish\", need relu, leaky_relu, tanh, sigmoid or none",
        ),
        (
            {"blocks": [{"filters": 1, "kernel": 3, "batch_norm": 1}]},
            r"batch_norm: got 1, need true or false",
        ),
        (
            {"blocks": [{"filters": 1, "kernel": 3, "pool": "max"}]},
            r"pool: got \"max\", need none or a mapping",
        ),
        (
            {"blocks": [{"filters": 1, "kernel": 3, "pool": {"kind": "min", "size": 2}}]},
            r"blocks\[0\]\.pool\.kind: got \"min\", need max or average",
        ),
        (
            {"blocks": ["conv"]},
            r"blocks\[0\]: got \"conv\", need a mapping",
        ),
        (
            {"blocks": [], "dense": [{"units": 9}, {"units": 9, "dropout": 1.0}]},
            r"dense\[1\]\.dropout: got 1\.0, need a number of at least 0",
        ),
    ],
)
def test_mistakes_name_the_block_the_key_and_the_valid_ones(args, expected):
    with pytest.raises(PipelineError, match=expected):
        plain(**args)


def test_no_pool_may_be_said():
    for pool in (None, "none"):
        network = plain((1, 4, 4), 2, blocks=[{"filters": 1, "kernel": 1, "pool": pool}])
        assert network.head.in_features == 16


def test_a_block_that_does_not_fit_shows_its_sum():
    blocks = [
        {"filters": 6, "kernel": 5, "pool": {"kind": "max", "size": 2}},
        {"filters": 16, "kernel": 5, "padding": "valid"},
    ]
    expected = (
        r"plain does not take images of 8 x 40 px \(block 2 does not fit its volume of 6 x 4 x 20"
        r" \(channels x height x width\): floor\(\(4 \+ 2\*0 - 5\)/1\) \+ 1 = 0\); raise"
        r" pack\.height and pack\.width, or change model\.args, in params\.yaml"
    )
    with pytest.raises(PipelineError, match=expected):
        plain((1, 8, 40), blocks=blocks)


def test_a_pool_that_does_not_fit_shows_its_sum():
    block = {"filters": 2, "kernel": 3, "pool": {"kind": "max", "size": 6, "stride": 2}}
    expected = r"the pool of block 1 .* 2 x 9 x 5 .*floor\(\(5 \+ 2\*0 - 6\)/2\) \+ 1 = 0"
    with pytest.raises(PipelineError, match=expected):
        plain((1, 9, 5), blocks=[block])


def test_params_know_the_same_names():
    assert tuple(ACTIVATIONS) == get_args(Activation)
    assert tuple(POOLS) == get_args(Pool.model_fields["kind"].annotation)
