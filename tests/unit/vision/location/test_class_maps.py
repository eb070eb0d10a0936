import numpy as np
import pytest
import torch
from torch import nn

from pipeline.vision.location.class_maps import ClassMaps
from pipeline.vision.networks import build_network

POOLED = {
    "blocks": [
        {"filters": 6, "kernel": 3, "stride": 2},
        {"filters": 8, "kernel": 3, "activation": "tanh", "pool": {"kind": "average", "size": 8}},
    ]
}
# Each takes its global average in another way: a layer of pooling (adaptive or not), a function, a
# method of tensors; behind the head's dropout, or behind an activation without a module.
EXACT = {
    "plain": (POOLED, (1, 16, 16)),
    "resnet20": ({}, (1, 16, 16)),
    "squeezenet1_1": ({}, (3, 40, 40)),
    "resnet18": ({}, (3, 40, 40)),
    "densenet121": ({}, (3, 64, 64)),
    "shufflenet_v2_x0_5": ({}, (3, 40, 40)),
}


def network_of(name, args, shape):
    """Build a network whose batch norms have seen images, so that no logit explodes or vanishes."""
    torch.manual_seed(0)
    network = build_network(name, args, shape, 3)
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(2, *shape))
    return network.eval()


@pytest.mark.parametrize("name", EXACT)
def test_the_mean_of_an_exact_map_is_the_logit_less_its_bias(name):
    args, shape = EXACT[name]
    network = network_of(name, args, shape)
    maps = ClassMaps(network, shape)
    assert maps.method == "cam"
    images = torch.randn(3, *shape)
    with torch.no_grad():
        evidence = network(images) - network.head.bias
    scale = float(evidence.abs().max())
    assert scale > 1e-3
    for classes in ([0, 1, 2], [2, 0, 0]):
        found = maps(images, torch.tensor(classes))
        assert found.shape == (3, *maps.size)
        assert found.flatten(1).std(dim=1).min() > 0  # another one than the logit everywhere
        expected = evidence[torch.arange(3), classes]
        assert torch.allclose(found.mean(dim=(1, 2)), expected, atol=1e-4 * scale)


def test_an_exact_map_is_that_of_the_layer_before_the_average():
    network = network_of("resnet20", {}, (1, 16, 16))
    seen = []
    network.extractor.layer3.register_forward_hook(lambda *arguments: seen.append(arguments[-1]))
    images = torch.randn(2, 1, 16, 16)
    maps = ClassMaps(network, (1, 16, 16))
    found = maps(images, torch.tensor([1, 2]))
    features, weights = seen[-1].detach().numpy(), network.head.weight.detach().numpy()
    for row, label in enumerate((1, 2)):
        by_hand = sum(weights[label, c] * features[row, c] for c in range(64))
        np.testing.assert_allclose(found[row].numpy(), by_hand, rtol=1e-4, atol=1e-4)
    # Convolutions see a larger image as they see a smaller one.
    assert maps(torch.randn(1, 1, 40, 24), torch.tensor([0])).shape == (1, 10, 6)


def gradients_by_hand(below, above, images, classes):
    """LayerCAM between two halves of a network, by torch's gradients."""
    volume = below(images).detach().requires_grad_()
    logits = above(volume)
    logits[torch.arange(len(classes)), classes].sum().backward()
    return (volume.grad * volume).detach().relu().sum(dim=1)


@pytest.mark.parametrize("name", ["lenet5", "mobilenet_v3_small"])
def test_other_networks_get_layercam(name):
    shape = (1, 28, 28) if name == "lenet5" else (3, 40, 40)
    network = network_of(name, {}, shape)
    if name == "lenet5":
        layers = list(network.extractor)
        split = next(i for i, layer in enumerate(layers) if isinstance(layer, nn.Flatten))
        below, above = nn.Sequential(*layers[:split]), nn.Sequential(*layers[split:], network.head)
    else:
        inner = network.extractor
        below = inner.features
        above = nn.Sequential(inner.avgpool, nn.Flatten(), inner.classifier, network.head)
    maps = ClassMaps(network, shape)
    assert maps.method == "layercam"
    images, classes = torch.randn(2, *shape), torch.tensor([2, 0])
    found = maps(images, classes)
    expected = gradients_by_hand(below, above, images, classes)
    assert expected.max() > 0
    assert found.shape == (2, *maps.size)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6 * float(expected.max()))


# Start and jump by hand. resnet20: two steps of 2, each padded by 1 for a kernel of 3. lenet5: a
# convolution of 5 that is padded, a pooling of 2, a convolution of 5 that is not, a pooling of 2.
# mobilenet_v3_small: five steps of 2, with squeeze-and-excitation, which moves nothing.
# vgg11_bn: five poolings of 2.
@pytest.mark.parametrize(
    ("name", "shape", "start", "jump"),
    [
        ("resnet20", (1, 16, 24), 0.5, 4),
        ("lenet5", (1, 28, 28), 6.0, 4),
        ("mobilenet_v3_small", (3, 64, 96), 0.5, 32),
        ("vgg11_bn", (3, 64, 64), 16.0, 32),
    ],
)
def test_places_of_a_map_are_the_middles_of_receptive_fields(name, shape, start, jump):
    maps = ClassMaps(network_of(name, {}, shape), shape)
    assert maps.places == ((start, jump), (start, jump))
