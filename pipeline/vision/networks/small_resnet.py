"""The residual networks for small images of He et al. 2016, section 4.2."""

from torch import Tensor, nn
from torch.nn import functional

from pipeline.vision.networks.classifier import Classifier, Shape


def build_small_resnet(depth: int, shape: Shape, classes: int) -> Classifier:
    """Build the network of `depth` = 6n + 2 layers."""
    extractor = CifarResNet(shape[0], depth)
    return Classifier(extractor, CifarResNet.features, classes, head_name="linear")


class CifarResNet(nn.Module):
    """A convolution, three stages of n blocks each at 16, 32, 64 channels, a global average."""

    features = 64

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
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
