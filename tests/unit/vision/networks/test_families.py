import pytest
import torch
from torch import nn

from pipeline.errors import PipelineError
from pipeline.vision._torchvision import import_torchvision
from pipeline.vision.networks import build_network, count_parameters
from pipeline.vision.networks.families import REPLACED

FEATURES = {
    "alexnet": 256 * 6 * 6,
    "vgg11_bn": 512 * 7 * 7,
    "vgg16_bn": 512 * 7 * 7,
    "squeezenet1_0": 512,
    "squeezenet1_1": 512,
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "resnet101": 2048,
    "resnext50_32x4d": 2048,
    "wide_resnet50_2": 2048,
    "densenet121": 1024,
    "mobilenet_v2": 1280,
    "mobilenet_v3_small": 1024,
    "mobilenet_v3_large": 1280,
    "mnasnet1_0": 1280,
    "shufflenet_v2_x0_5": 1024,
    "shufflenet_v2_x1_0": 1024,
    "efficientnet_b0": 1280,
    "efficientnet_b1": 1280,
    "efficientnet_b2": 1408,
    "efficientnet_b3": 1536,
    "efficientnet_v2_s": 1280,
    "regnet_y_400mf": 440,
    "regnet_y_800mf": 784,
    "convnext_tiny": 768,
    "convnext_small": 768,
}
# The dense layers of 4096 units that go, by their inputs; the last, of 1000, is our head.
DENSE_LAYERS_GONE = {"alexnet": (9216, 4096), "vgg11_bn": (25088, 4096), "vgg16_bn": (25088, 4096)}


def expected_parameters(name, classes):
    """torchvision's own count for 1000 classes, but for the dense layers that go."""
    weights = import_torchvision().models.get_model_weights(name).DEFAULT
    body = weights.meta["num_params"]
    if name in DENSE_LAYERS_GONE:
        body -= sum(inputs * 4096 + 4096 for inputs in DENSE_LAYERS_GONE[name])
        body -= 4096 * 1000 + 1000
    else:
        body -= FEATURES[name] * 1000 + 1000
    return body + FEATURES[name] * classes + classes


def on_meta(name, channels, classes):
    """Build without drawing any weights; regnets compute their widths and cannot."""
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        return build_network(name, {}, (channels, 64, 64), classes).eval()


def test_every_family_is_counted():
    assert list(FEATURES) == list(REPLACED)


@pytest.mark.parametrize("name", REPLACED)
def test_as_many_parameters_as_published_and_the_right_shapes(name):
    network = on_meta(name, 3, 1000)
    assert count_parameters(network) == expected_parameters(name, 1000)
    images = torch.zeros(2, 3, 64, 64, device=network.head.weight.device)
    with torch.inference_mode():
        features = network.extractor(images)
        assert features.shape == (2, FEATURES[name])
        assert network.head(features).shape == (2, 1000)


@pytest.mark.parametrize("name", REPLACED)
def test_other_channels_and_classes_change_the_first_convolution_and_the_head(name):
    network = on_meta(name, 1, 7)
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    filters, _, height, width = first.weight.shape
    fewer = filters * 2 * height * width
    assert count_parameters(network) == expected_parameters(name, 7) - fewer
    assert network.head.weight.shape == (7, FEATURES[name])


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_1", "resnet18", "mobilenet_v3_small"])
def test_on_the_processor_too(name):
    network = build_network(name, {}, (2, 64, 64), 3).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 2, 64, 64)).shape == (2, 3)


def test_logits_are_torchvisions_where_all_weights_are():
    """Nothing but the names differs from the original, whose last layer becomes the head."""
    original = import_torchvision().models.mobilenet_v3_small(num_classes=5).eval()
    network = build_network("mobilenet_v3_small", {}, (3, 32, 32), 5).eval()
    weights = original.state_dict()
    head = {name: weights.pop(f"classifier.3.{name}") for name in ("weight", "bias")}
    network.extractor.load_state_dict(weights)
    network.head.load_state_dict(head)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(network(images), original(images))


def test_arguments_reach_the_network():
    network = build_network("mobilenet_v3_small", {"dropout": 0.5}, (3, 64, 64), 2)
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.5]


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("efficientnet_b0", {"dropout": 0.3, "stochastic_depth_prob": 0.1}),
        ("efficientnet_v2_s", {"dropout": 0.3, "stochastic_depth_prob": 0.1}),
        ("convnext_tiny", {"stochastic_depth_prob": 0.2}),
        ("densenet121", {"drop_rate": 0.1}),
        ("alexnet", {"dropout": 0.1}),
        ("squeezenet1_0", {"dropout": 0.1}),
        ("mnasnet1_0", {"dropout": 0.1}),
        ("mobilenet_v2", {"dropout": 0.1}),
        ("resnext50_32x4d", {"zero_init_residual": True}),
    ],
)
def test_every_argument_is_taken(name, args):
    with torch.device("meta"):
        build_network(name, args, (3, 64, 64), 2)


@pytest.mark.parametrize(
    ("name", "dropouts"),
    [("alexnet", [0.5]), ("squeezenet1_1", [0.5]), ("mobilenet_v2", [0.2]), ("vgg11_bn", [])],
)
def test_what_stands_before_the_replaced_layers_stays(name, dropouts):
    network = on_meta(name, 3, 2)
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == dropouts


@pytest.mark.parametrize(
    ("name", "size", "reason"),
    [
        ("squeezenet1_0", 8, "Output size is too small"),
        ("alexnet", 32, "Output size is too small"),
        ("vgg11_bn", 16, "Output size is too small"),
        ("convnext_tiny", 16, "Kernel size can't be greater than actual input size"),
    ],
)
def test_images_too_small_are_an_error_that_names_the_setting(name, size, reason):
    with (
        torch.device("meta"),
        pytest.raises(PipelineError, match=rf"{size} x {size} px .*{reason}.*pack\.height"),
    ):
        build_network(name, {}, (3, size, size), 2)
