"""Convolutional networks by name, each as a feature extractor and a linear head."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import PipelineError, did_you_mean
from pipeline.vision._torchvision import import_torchvision

Shape = tuple[int, int, int]  # channels, height, width


class Classifier(nn.Module):
    """An extractor (images to features) below a linear head (features to logits)."""

    def __init__(self, extractor: nn.Module, features: int, classes: int) -> None:
        super().__init__()
        self.extractor = extractor
        self.head = nn.Linear(features, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map n x channels x height x width to n x classes logits."""
        logits: Tensor = self.head(self.extractor(images))
        return logits


class LeNet5(nn.Module):
    """LeCun et al. 1998 with ReLU and max pooling: 28 px are padded to the original's 32."""

    features = 84

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        channels, height, width = shape
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        rows, columns = (height // 2 - 4) // 2, (width // 2 - 4) // 2
        if rows < 1 or columns < 1:
            raise PipelineError(
                f"lenet5 needs images of at least 12 x 12 px, got {height} x {width};"
                " raise pack.height and pack.width in params.yaml"
            )
        self.fc1 = nn.Linear(16 * rows * columns, 120)
        self.fc2 = nn.Linear(120, self.features)

    def forward(self, images: Tensor) -> Tensor:
        """Map n x channels x height x width to n x 84."""
        x = functional.max_pool2d(functional.relu(self.conv1(images)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        return functional.relu(self.fc2(functional.relu(self.fc1(x.flatten(1)))))


class _BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a parameter-free shortcut (option A of He et al. 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.missing = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.missing or self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
            x = functional.pad(x, (0, 0, 0, 0, self.missing // 2, self.missing - self.missing // 2))
        return functional.relu(x + y)


class CifarResNet(nn.Module):
    """The ResNet for small images of He et al. 2016, section 4.2: 6n + 2 layers."""

    features = 64

    def __init__(self, shape: Shape, depth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(shape[0], 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        blocks = (depth - 2) // 6
        for stage, (inputs, outputs) in enumerate(((16, 16), (16, 32), (32, 64)), start=1):
            layer = [_BasicBlock(inputs, outputs, 1 if stage == 1 else 2)]
            layer += [_BasicBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(*layer))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Map n x channels x height x width to n x 64."""
        x = functional.relu(self.bn1(self.conv1(images)))
        for stage in (1, 2, 3):
            x = self.get_submodule(f"layer{stage}")(x)
        return x.mean(dim=(2, 3))


def _small_resnet(depth: int, shape: Shape, classes: int) -> Classifier:
    return Classifier(CifarResNet(shape, depth), CifarResNet.features, classes)


def _lenet5(shape: Shape, classes: int) -> Classifier:
    return Classifier(LeNet5(shape), LeNet5.features, classes)


def _squeezenet(name: str, shape: Shape, classes: int, **args: Any) -> Classifier:
    """SqueezeNet has no dense layer: its features are averaged and get a linear head."""
    extractor = getattr(import_torchvision().models, name)(weights=None, **args)
    _accept_channels(extractor, shape[0])
    extractor.classifier = nn.AdaptiveAvgPool2d(1)
    return Classifier(extractor, 512, classes)


def _torchvision(name: str, head: str, shape: Shape, classes: int, **args: Any) -> Classifier:
    """Take a torchvision network and put our head for its last dense layer, at `head`."""
    extractor = getattr(import_torchvision().models, name)(weights=None, **args)
    _accept_channels(extractor, shape[0])
    parent, _, last = head.rpartition(".")
    features = extractor.get_submodule(head).in_features
    setattr(extractor.get_submodule(parent), last, nn.Identity())
    return Classifier(extractor, features, classes)


def _accept_channels(network: nn.Module, channels: int) -> None:
    """Make the first convolution anew where it does not take `channels`."""
    name, first = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    if first.in_channels == channels:
        return
    parent, _, last = name.rpartition(".")
    new = nn.Conv2d(
        channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]  # pairs here, declared as tuples
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    setattr(network.get_submodule(parent), last, new)


BUILDERS: Mapping[str, Callable[..., Classifier]] = {
    "lenet5": _lenet5,
    "resnet20": partial(_small_resnet, 20),
    "resnet32": partial(_small_resnet, 32),
    "resnet44": partial(_small_resnet, 44),
    "resnet56": partial(_small_resnet, 56),
    "squeezenet1_0": partial(_squeezenet, "squeezenet1_0"),
    "squeezenet1_1": partial(_squeezenet, "squeezenet1_1"),
    "mobilenet_v3_small": partial(_torchvision, "mobilenet_v3_small", "classifier.3"),
    "mobilenet_v3_large": partial(_torchvision, "mobilenet_v3_large", "classifier.3"),
    "resnet18": partial(_torchvision, "resnet18", "fc"),
    "resnet34": partial(_torchvision, "resnet34", "fc"),
    "resnet50": partial(_torchvision, "resnet50", "fc"),
    "efficientnet_b0": partial(_torchvision, "efficientnet_b0", "classifier.1"),
    "convnext_tiny": partial(_torchvision, "convnext_tiny", "classifier.2"),
}


def build_network(name: str, args: Mapping[str, Any], shape: Shape, classes: int) -> Classifier:
    """Build a network with random weights from torch's global generator.

    Args:
        name: one of `BUILDERS`.
        args: further arguments of that network, such as dropout.
        shape: channels, height and width of one image.
        classes: number of classes.

    Raises:
        PipelineError: unknown name or argument, or images too small for the network.
    """
    if name not in BUILDERS:
        nearest = did_you_mean(name, BUILDERS)
        raise PipelineError(
            f"model.name: unknown network {name}{nearest} (valid: {', '.join(BUILDERS)})"
        )
    try:
        network = BUILDERS[name](shape=shape, classes=classes, **args)
    except (TypeError, ValueError) as error:
        raise PipelineError(
            f"model.args: {name} does not take {dict(args)}: {error}; change model.args in"
            " params.yaml"
        ) from error
    _check_fits(network, name, shape)
    return network


def _check_fits(network: Classifier, name: str, shape: Shape) -> None:
    """Run one image of zeros through: a network that shrinks it to nothing says so here."""
    network.eval()
    try:
        with torch.inference_mode():
            network(torch.zeros(1, *shape))
    except RuntimeError as error:
        _, height, width = shape
        raise PipelineError(
            f"{name} does not take images of {height} x {width} px ({error}); raise pack.height"
            " and pack.width in params.yaml"
        ) from error
    network.train()


def count_parameters(network: nn.Module) -> int:
    """Count the parameters, trained or frozen."""
    return sum(parameter.numel() for parameter in network.parameters())
