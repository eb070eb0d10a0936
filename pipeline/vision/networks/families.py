"""torchvision's families of convolutional networks, with our head for their last layer."""

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from torch import nn

from pipeline.vision._torchvision import import_torchvision
from pipeline.vision.networks.classifier import Classifier, Shape
from pipeline.vision.networks.first_convolution import accept_channels

# What gives way to the head: mostly the last dense layer. All dense layers of AlexNet and VGG go,
# as is usual when these are transferred; SqueezeNet ends in a convolution and an average. The
# dropout before stays.
REPLACED: Mapping[str, str] = {
    "alexnet": "classifier",
    "vgg11_bn": "classifier",
    "vgg16_bn": "classifier",
    "squeezenet1_0": "classifier",
    "squeezenet1_1": "classifier",
    "resnet18": "fc",
    "resnet34": "fc",
    "resnet50": "fc",
    "resnet101": "fc",
    "resnext50_32x4d": "fc",
    "wide_resnet50_2": "fc",
    "densenet121": "classifier",
    "mobilenet_v2": "classifier.1",
    "mobilenet_v3_small": "classifier.3",
    "mobilenet_v3_large": "classifier.3",
    "mnasnet1_0": "classifier.1",
    "shufflenet_v2_x0_5": "fc",
    "shufflenet_v2_x1_0": "fc",
    "efficientnet_b0": "classifier.1",
    "efficientnet_b1": "classifier.1",
    "efficientnet_b2": "classifier.1",
    "efficientnet_b3": "classifier.1",
    "efficientnet_v2_s": "classifier.1",
    "regnet_y_400mf": "fc",
    "regnet_y_800mf": "fc",
    "convnext_tiny": "classifier.2",
    "convnext_small": "classifier.2",
}


def build_family(name: str, shape: Shape, classes: int, **args: Any) -> Classifier:
    """Build torchvision's network `name` with random weights and our head.

    Args:
        name: one of `REPLACED`.
        shape: channels, height and width of one image.
        classes: number of classes.
        args: arguments of torchvision's own builder.
    """
    extractor = getattr(import_torchvision().models, name)(weights=None, **args)
    accept_channels(extractor, shape[0])
    path = REPLACED[name]
    replaced = extractor.get_submodule(path)
    first = next(m for m in replaced.modules() if isinstance(m, nn.Linear | nn.Conv2d))
    averages_itself = isinstance(first, nn.Conv2d)
    kept = list(takewhile(lambda module: module is not first, replaced.children()))  # dropout
    pool = nn.AdaptiveAvgPool2d(1) if averages_itself else nn.Identity()
    extractor.set_submodule(path, nn.Sequential(*kept, pool) if kept else pool)
    head_name = path if first is replaced else None
    return Classifier(extractor, first.weight.shape[1], classes, head_name)
