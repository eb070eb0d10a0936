"""Plain networks, described block by block: convolutions, then dense layers, then the head."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from math import prod, sqrt
from typing import Any, Literal

from torch import nn

from pipeline.params.choices.networks import Activation, Block, Dense, Pool
from pipeline.vision.networks.classifier import Classifier, DoesNotFitError, Shape

# Each activation, and the gain that keeps the scale of activations through a layer: the standard
# deviation of its weights is gain / sqrt(inputs of one unit). He et al. 2015 for the rectifiers,
# Glorot and Bengio 2010 for the others.
ACTIVATIONS: Mapping[Activation, tuple[type[nn.Module], float]] = {
    "relu": (nn.ReLU, sqrt(2.0)),
    "leaky_relu": (nn.LeakyReLU, sqrt(2.0 / (1.0 + 0.01**2))),
    "tanh": (nn.Tanh, 1.0),
    "sigmoid": (nn.Sigmoid, 1.0),
    "none": (nn.Identity, 1.0),
}
POOLS: Mapping[Literal["max", "average"], type[nn.MaxPool2d] | type[nn.AvgPool2d]] = {
    "max": nn.MaxPool2d,
    "average": nn.AvgPool2d,
}


# LeCun et al. 1998 with ReLU and max pooling: 28 px are padded to the original's 32.
LENET5: Mapping[str, Any] = {
    "blocks": [
        Block(filters=6, kernel=5, padding="same", pool=Pool(kind="max", size=2)),
        Block(filters=16, kernel=5, padding="valid", pool=Pool(kind="max", size=2)),
    ],
    "dense": [Dense(units=120), Dense(units=84)],
}


def build_plain(
    shape: Shape, classes: int, blocks: Sequence[Block], dense: Sequence[Dense] = ()
) -> Classifier:
    """Build the network that params.yaml describes.

    Args:
        shape: channels, height and width of one image.
        classes: number of classes.
        blocks: from the input on.
        dense: after the blocks.

    Raises:
        DoesNotFitError: a block leaves nothing of its volume.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    volume = shape
    for number, block in enumerate(blocks, start=1):
        layers |= _convolution(block, number, volume[0])
        volume = _after_block(block, number, volume)
    layers["flatten"] = nn.Flatten()
    features = prod(volume)
    for number, layer in enumerate(dense, start=1):
        layers |= _dense(layer, number, features)
        features = layer.units
    return Classifier(nn.Sequential(layers), features, classes, head_name=f"fc{len(dense) + 1}")


def _margins(block: Block) -> tuple[int, int]:
    """Return the padding in px before and after; an even kernel's odd pixel comes after."""
    reach = block.kernel - 1
    if block.padding == "same":
        return reach // 2, reach - reach // 2
    return (reach, reach) if block.padding == "full" else (0, 0)


def _convolution(block: Block, number: int, channels: int) -> OrderedDict[str, nn.Module]:
    """List the layers of a block by name."""
    before, after = _margins(block)
    symmetric = before == after
    convolution = nn.Conv2d(
        channels,
        block.filters,
        block.kernel,
        block.stride,
        before if symmetric else 0,
        bias=not block.batch_norm,  # the norm has one
    )
    activation = _activate(convolution, block.activation)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if not symmetric:
        layers[f"pad{number}"] = nn.ZeroPad2d((before, after, before, after))
    layers[f"conv{number}"] = convolution
    if block.batch_norm:
        layers[f"bn{number}"] = nn.BatchNorm2d(block.filters)
    layers[f"activation{number}"] = activation
    if block.pool:
        size, stride = block.pool.size, block.pool.stride or block.pool.size
        layers[f"pool{number}"] = POOLS[block.pool.kind](size, stride)
    return layers


def _dense(layer: Dense, number: int, features: int) -> OrderedDict[str, nn.Module]:
    """List the parts of a dense layer by name."""
    linear = nn.Linear(features, layer.units)
    return OrderedDict(
        {
            f"fc{number}": linear,
            f"fc_activation{number}": _activate(linear, layer.activation),
            f"dropout{number}": nn.Dropout(layer.dropout),
        }
    )


def _activate(layer: nn.Conv2d | nn.Linear, name: Activation) -> nn.Module:
    """Return the activation and draw the weights before it, so that it keeps their scale."""
    kind, gain = ACTIVATIONS[name]
    inputs = layer.weight[0].numel()
    nn.init.normal_(layer.weight, std=gain / sqrt(inputs))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return kind()


def _after_block(block: Block, number: int, volume: Shape) -> Shape:
    """Return channels, height, width that a block makes of `volume`."""
    volume = _slide(f"block {number}", volume, block.kernel, block.stride, _margins(block))
    volume = block.filters, *volume[1:]
    if block.pool:
        size, stride = block.pool.size, block.pool.stride or block.pool.size
        volume = _slide(f"the pool of block {number}", volume, size, stride, (0, 0))
    return volume


def _slide(what: str, volume: Shape, size: int, stride: int, margins: tuple[int, int]) -> Shape:
    """Return `volume` after a window of `size` px went over it: floor((n + 2p - k)/s) + 1 per side.

    Raises:
        DoesNotFitError: the window is larger than the padded volume.
    """
    channels, height, width = volume
    before, after = margins
    rows, columns = ((n + before + after - size) // stride + 1 for n in (height, width))
    if rows < 1 or columns < 1:
        side, left = (height, rows) if rows < 1 else (width, columns)
        raise DoesNotFitError(
            f"{what} does not fit its volume of {channels} x {height} x {width} (channels x height"
            f" x width): floor(({side} + 2*{before} - {size})/{stride}) + 1 = {left}"
        )
    return channels, rows, columns
