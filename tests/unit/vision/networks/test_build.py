import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.params.choices.networks import NETWORKS
from pipeline.vision.networks import BUILDERS, build_network, count_parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # He et al. 2016, table 6: 0.27, 0.46, 0.66, 0.85 million
        ("resnet20", 269_722),
        ("resnet32", 464_154),
        ("resnet44", 658_586),
        ("resnet56", 853_018),
    ],
)
def test_parameter_counts_for_ten_classes(name, parameters):
    assert count_parameters(build_network(name, {}, (3, 32, 32), 10)) == parameters


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", ["lenet5", "resnet20", "resnet56"])
def test_shapes(name, channels):
    network = build_network(name, {}, (channels, 24, 40), 7).eval()
    with torch.inference_mode():
        images = torch.zeros(2, channels, 24, 40)
        features = network.extractor(images)
        assert features.shape == (2, network.head.in_features)
        assert network(images).shape == (2, 7)


def test_a_network_is_drawn_from_the_global_seed_alone():
    def weights():
        torch.manual_seed(3)
        return build_network("squeezenet1_1", {}, (1, 32, 32), 4).state_dict()

    first, second = weights(), weights()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_trying_the_size_changes_neither_weights_nor_mode():
    network = build_network("resnet20", {}, (3, 32, 32), 4)
    assert network.training
    assert torch.equal(network.extractor.bn1.running_mean, torch.zeros(16))
    assert all(p.device.type == "cpu" and p.requires_grad for p in network.parameters())


def test_unknown_name_lists_the_valid_ones():
    with pytest.raises(PipelineError, match=r"unknown network resnet21, did you mean resnet32\?"):
        build_network("resnet21", {}, (3, 32, 32), 2)


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("lenet5", {"dropout": 0.5}, r"model\.args\.dropout: unknown key, valid: none"),
        ("mobilenet_v2", {"dropot": 0.5}, r"dropot: unknown key, did you mean dropout\?"),
        (
            "mobilenet_v2",
            {"dropout": "much"},
            r"dropout: got \"much\", need a number",
        ),
        (
            "resnet18",
            {"num_classes": 3},
            r"num_classes: unknown key.*change the model resnet18 in params",
        ),
    ],
)
def test_wrong_arguments_are_named(name, args, expected):
    with pytest.raises(PipelineError, match=expected):
        build_network(name, args, (1, 28, 28), 2)


def test_params_and_builders_name_the_same_networks():
    assert tuple(BUILDERS) == tuple(NETWORKS)


def test_images_too_small_are_an_error_that_names_the_setting():
    with pytest.raises(PipelineError, match=r"8 x 8 px .*raise pack\.height and pack\.width in"):
        build_network("lenet5", {}, (3, 8, 8), 2)
