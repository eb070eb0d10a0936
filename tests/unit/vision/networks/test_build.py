import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.vision.networks import BUILDERS, build_network, count_parameters


def test_lenet5_layer_by_layer():
    network = build_network("lenet5", {}, (1, 28, 28), 10)
    layers = [
        sum(p.numel() for p in module.parameters(recurse=False))
        for module in network.modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)
    ]
    assert layers == [156, 2416, 48120, 10164, 850]
    assert count_parameters(network) == 61_706


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # He et al. 2016, table 6: 0.27, 0.46, 0.66, 0.85 million
        ("resnet20", 269_722),
        ("resnet32", 464_154),
        ("resnet44", 658_586),
        ("resnet56", 853_018),
        # torchvision's own count
        ("resnet18", 11_181_642),
    ],
)
def test_parameter_counts_for_ten_classes(name, parameters):
    assert count_parameters(build_network(name, {}, (3, 32, 32), 10)) == parameters


@pytest.mark.parametrize("name", BUILDERS)
def test_shapes(name):
    network = build_network(name, {}, (1, 64, 64), 7).eval()
    with torch.inference_mode():
        images = torch.zeros(2, 1, 64, 64)
        features = network.extractor(images)
        assert features.shape == (2, network.head.in_features)
        assert network(images).shape == (2, 7)


def test_unknown_name_lists_the_valid_ones():
    with pytest.raises(PipelineError, match=r"unknown network resnet21, did you mean resnet32\?"):
        build_network("resnet21", {}, (3, 32, 32), 2)


def test_unknown_argument_is_named():
    with pytest.raises(PipelineError, match=r"model\.args: lenet5 does not take .*'dropout'"):
        build_network("lenet5", {"dropout": 0.5}, (1, 28, 28), 2)


def test_arguments_reach_the_network():
    network = build_network("mobilenet_v3_small", {"dropout": 0.5}, (3, 64, 64), 2)
    dropouts = [m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)]
    assert dropouts == [0.5]


@pytest.mark.parametrize(("name", "size"), [("lenet5", 8), ("squeezenet1_0", 8)])
def test_images_too_small_are_an_error_that_names_the_setting(name, size):
    with pytest.raises(PipelineError, match=r"8 x 8.*pack\.height"):
        build_network(name, {}, (3, size, size), 2)
