"""What one operation of a traced network does to volumes and receptive fields."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from torch import fx, nn

from pipeline.errors import PipelineError
from pipeline.evaluation.reports.network import Pair, Window
from pipeline.vision.anatomy.receptive_field import Field, joined
from pipeline.vision.anatomy.trace import Traced

# What acts on each value alone, or on all channels of one place.
_IN_PLACE = {
    "BatchNorm2d": "batch norm",
    "LayerNorm": "layer norm",
    "layer_norm": "layer norm",
    "Dropout": "dropout",
    "stochastic_depth": "stochastic depth",
    "contiguous": "copy",
    "chunk": "split",
    "Identity": "identity",
    "ReLU": "relu",
    "relu": "relu",
    "ReLU6": "relu6",
    "LeakyReLU": "leaky relu",
    "Tanh": "tanh",
    "Sigmoid": "sigmoid",
    "Hardswish": "hardswish",
    "Hardsigmoid": "hardsigmoid",
    "SiLU": "silu",
    "GELU": "gelu",
}
_WINDOWS = {nn.Conv2d: "convolution", nn.MaxPool2d: "max pool", nn.AvgPool2d: "average pool"}
_JOINS = {"add": "add", "mul": "multiply", "cat": "concatenate"}
# The output is the input: as it is, a part of it, or in another shape.
VIEWS = {
    *("identity", "dropout", "stochastic depth", "flatten", "slice"),
    *("split", "permute", "transpose", "view"),
}
_VECTOR = 2  # dimensions, with that of images


@dataclass(frozen=True)
class Seen:
    """What the units of a volume see of the image.

    Attributes:
        rows, columns: along height and width.
        places: which dimensions of the tensor are height and width; None once they are flattened.
    """

    rows: Field
    columns: Field
    places: Pair | None = (2, 3)


@dataclass(frozen=True)
class Operation:
    """What one node does.

    Attributes:
        kind: in words.
        seen: by the units of its output.
        window: that it moves over its input, if any.
        macs: multiply-accumulates for one image.
    """

    kind: str
    seen: Seen
    window: Window | None = None
    macs: int = 0


def operation_name(traced: Traced, node: fx.Node) -> str:
    """Return the class of a node's layer, or the name of its function or method."""
    layer = traced.layer(node)
    if layer is not None:
        return type(layer).__name__
    return node.target if isinstance(node.target, str) else node.target.__name__


def operate(  # noqa: PLR0911 - one per kind of operation
    traced: Traced, node: fx.Node, inputs: Sequence[Seen]
) -> Operation:
    """Return what a node does.

    Args:
        traced: the network.
        node: that returns a tensor, or several of one shape.
        inputs: what the units of the volumes that it reads see.

    Raises:
        PipelineError: an operation that is not known here.
    """
    seen, shape, layer = inputs[0], traced.shapes[node], traced.layer(node)
    name = operation_name(traced, node)
    if name in _JOINS:
        rows, columns = joined([s.rows for s in inputs]), joined([s.columns for s in inputs])
        return Operation(_JOINS[name], Seen(rows, columns, seen.places))
    if name in _IN_PLACE:
        return Operation(_IN_PLACE[name], seen)
    match name, layer:
        case _, nn.Conv2d() | nn.MaxPool2d() | nn.AvgPool2d():
            return _slide(layer, seen, shape)
        case _, nn.Linear():
            # Behind a flattening it reads the whole volume, else the channels of one place.
            read = _whole(seen) if seen.places is None else seen
            return Operation("dense", read, macs=prod(shape[1:]) * layer.in_features)
        case "AdaptiveAvgPool2d" | "adaptive_avg_pool2d", _:
            rows, columns = seen.rows.pool_to(shape[2]), seen.columns.pool_to(shape[3])
            return Operation("adaptive pool", replace(seen, rows=rows, columns=columns))
        case "mean", _ if _means_over(node, seen, len(traced.shapes[traced.inputs(node)[0]])):
            places = seen.places if len(shape) > _VECTOR else None
            return Operation("mean", replace(_whole(seen), places=places))
        case "Flatten" | "flatten", _ if len(shape) == _VECTOR:
            return Operation("flatten", replace(seen, places=None))
        case "ZeroPad2d" | "pad", _ if seen.places == (2, 3):
            given = layer.padding if isinstance(layer, nn.ZeroPad2d) else node.args[1]
            return Operation("pad", _pad(seen, given, shape))
        case "getitem", _ if isinstance(node.args[1], int):
            return Operation("split", seen)
        case "getitem", _:
            return Operation("slice", _slice(seen, node.args[1], shape))
        case "permute" | "transpose" | "view", _:
            return Operation(name, _rearrange(name, node, seen, shape))
    raise PipelineError(
        f"{node.name} is a {name}, of which is not known what it does to an image; expected a"
        " network of pipeline/vision/networks"
    )


def _pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def window_of(layer: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> Window:
    """Return the window that a layer moves over its input."""
    kernel = _pair(layer.kernel_size)
    dilation = (1, 1) if isinstance(layer, nn.AvgPool2d) else _pair(layer.dilation)
    if not isinstance(layer.padding, str):
        padding = _pair(layer.padding)
    elif layer.padding == "valid":
        padding = (0, 0)
    else:  # of an odd number of pixels, torch puts the one more behind
        padding = dilation[0] * (kernel[0] - 1) // 2, dilation[1] * (kernel[1] - 1) // 2
    return Window(
        kernel=kernel,
        stride=_pair(layer.stride),
        padding=padding,
        dilation=dilation,
        groups=layer.groups if isinstance(layer, nn.Conv2d) else 1,
    )


def _slide(
    layer: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d, seen: Seen, shape: Sequence[int]
) -> Operation:
    window = window_of(layer)
    each = (window.kernel, window.stride, window.padding, shape[2:], window.dilation)
    rows, columns = (
        field.slide(*how) for field, *how in zip((seen.rows, seen.columns), *each, strict=True)
    )
    macs = prod(shape[1:]) * layer.weight[0].numel() if isinstance(layer, nn.Conv2d) else 0
    return Operation(_WINDOWS[type(layer)], Seen(rows, columns), window, macs)


def _whole(seen: Seen) -> Seen:
    return replace(seen, rows=seen.rows.all_units(), columns=seen.columns.all_units())


def _means_over(node: fx.Node, seen: Seen, dimensions: int) -> bool:
    """Whether a mean is one over height and width."""
    given = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else ())
    dims = given if isinstance(given, Sequence) else (given,)
    return {dim % dimensions for dim in dims if isinstance(dim, int)} == set(seen.places or ())


def _pad(seen: Seen, given: Any, shape: Sequence[int]) -> Seen:
    """Return what is seen behind padding of the last dimension, the one before it, ..."""
    left, top = given[0], given[2] if len(given) > 2 else 0
    rows, columns = seen.rows, seen.columns
    return Seen(rows.slide(1, 1, top, shape[2]), columns.slide(1, 1, left, shape[3]))


def _slice(seen: Seen, index: Any, shape: Sequence[int]) -> Seen:
    """Return what is seen behind x[index]."""
    if not isinstance(index, tuple) or not all(isinstance(part, slice) for part in index):
        raise PipelineError(f"a volume is indexed by {index}; expected slices alone")
    whole = [*index, *[slice(None)] * (len(shape) - len(index))]
    steps = [(part.step or 1, -(part.start or 0)) for part in whole]
    row, column = seen.places or (0, 0)
    return replace(
        seen,
        rows=seen.rows.slide(1, *steps[row], shape[row]),
        columns=seen.columns.slide(1, *steps[column], shape[column]),
    )


def _rearrange(name: str, node: fx.Node, seen: Seen, shape: Sequence[int]) -> Seen:
    """Return what is seen where only the order of dimensions, or that of channels, changes."""
    given: Any = node.args[1:]
    row, column = seen.places or (0, 0)
    if name == "permute":
        order = list(given[0] if len(given) == 1 else given)
        return replace(seen, places=(order.index(row), order.index(column)))
    if name == "transpose":
        swapped = dict([given, given[::-1]])
        return replace(seen, places=(swapped.get(row, row), swapped.get(column, column)))
    last = len(shape) - 2, len(shape) - 1
    if (shape[last[0]], shape[last[1]]) != (seen.rows.units, seen.columns.units):
        raise PipelineError(f"{node.name} mixes height and width with other dimensions")
    return replace(seen, places=last)
