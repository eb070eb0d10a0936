import pytest
import torch
from torch import nn

from pipeline.vision.networks import BUILDERS, build_network
from pipeline.vision.networks.depth import depth_groups

PLAIN = {
    "blocks": [
        {"filters": 4, "kernel": 2, "batch_norm": True},
        {"filters": 8, "kernel": 3, "pool": {"kind": "max", "size": 2}},
    ],
    "dense": [{"units": 6, "dropout": 0.1}],
}


def on_meta(name):
    """Build without drawing any weights; regnets compute their widths and cannot."""
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        return build_network(name, PLAIN if name == "plain" else {}, (3, 64, 64), 5).eval()


def names(network):
    named = {module: name.removeprefix("extractor.") for name, module in network.named_modules()}
    return [[named[module] for module in group] for group in depth_groups(network)]


@pytest.mark.parametrize("name", BUILDERS)
def test_each_parameter_once_in_the_order_of_the_images(name):
    network = on_meta(name)
    groups = depth_groups(network)
    assert groups[-1] == [network.head]
    assert 4 <= len(groups) <= 45
    found = [id(p) for group in groups for module in group for p in module.parameters()]
    assert len(found) == len(set(found))
    assert set(found) == {id(p) for p in network.parameters()}

    for group in groups:  # norms go with what comes before them
        assert any(parameter.ndim > 1 for parameter in group[0].parameters())
        assert all(isinstance(module, nn.BatchNorm2d | nn.LayerNorm) for module in group[1:])

    passed = []
    for position, group in enumerate(groups):
        for module in group:
            module.register_forward_hook(lambda *_, place=position: passed.append(place))
    with torch.inference_mode():
        network(torch.zeros(1, 3, 64, 64, device=network.head.weight.device))
    assert passed == sorted(passed)
    assert set(passed) == set(range(len(groups)))


def test_groups_of_a_plain_network():
    assert names(on_meta("plain")) == [["conv1", "bn1"], ["conv2"], ["fc1"], ["head"]]


def test_groups_of_a_squeezenet_are_its_fire_modules():
    fires = [3, 4, 5, 7, 8, 9, 10, 12]
    expected = [["features.0"], *([f"features.{n}"] for n in fires), ["head"]]
    assert names(on_meta("squeezenet1_0")) == expected


def test_groups_of_a_residual_network_are_its_blocks():
    blocks = [[f"layer{stage}.{block}"] for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert names(on_meta("resnet18")) == [["conv1", "bn1"], *blocks, ["head"]]


def test_groups_of_a_densenet_are_dense_blocks_and_transitions():
    assert names(on_meta("densenet121")) == [
        ["features.conv0", "features.norm0"],
        ["features.denseblock1", "features.transition1.norm"],
        ["features.transition1.conv"],
        ["features.denseblock2", "features.transition2.norm"],
        ["features.transition2.conv"],
        ["features.denseblock3", "features.transition3.norm"],
        ["features.transition3.conv"],
        ["features.denseblock4", "features.norm5"],
        ["head"],
    ]
