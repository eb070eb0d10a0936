"""A classifier whose dense head is turned into convolutions, so that it reads larger images.

Long, Shelhamer and Darrell 2015; Sermanet et al. 2014 ("OverFeat").
"""

from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from pipeline.errors import PipelineError
from pipeline.vision.anatomy.trace import Shape, Traced, trace

# What works on a map as it does on a vector.
_KEPT = (
    nn.Identity,
    nn.Dropout,
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.SiLU,
    nn.GELU,
)
_KEPT_FUNCTIONS = (functional.relu, functional.layer_norm, "permute")
_POOLS = (functional.adaptive_avg_pool2d, "mean")
_FLATTENS = (torch.flatten, "flatten")
_MAP, _VECTOR = 4, 2  # dimensions, with that of images


def fully_convolutional(network: nn.Module, input_shape: Shape) -> nn.Module:
    """Return a copy of a classifier, in evaluation mode, that gives a map of logits.

    The first dense layer becomes a convolution with a kernel as large as the map that it reads in
    training, each further one a convolution of 1 x 1. Pooling to 1 x 1 becomes pooling over
    windows of the size of that map, at stride 1. Adaptive pooling to more than 1 x 1 is linear
    too, and goes into the kernels of the dense layer behind it.

    On an image of the training size the map is 1 x 1 and holds the network's logits. On a larger
    one, the logits at row i and column j are those of the window of the training size whose top
    left pixel is (i, j) times the product of all strides, exactly where no layer pads. Where
    layers pad, a window inside a larger image has neighbours where alone it would have zeros: the
    map then differs from sliding windows. Squeeze-and-excitation goes on averaging over
    the whole image that it is given, so that those networks differ from sliding windows too.

    Args:
        network: n x channels x height x width to n x classes.
        input_shape: channels, height, width of the images of its training.

    Returns:
        n x channels x H x W to n x classes x h x w, for H and W at least those of the training.

    Raises:
        PipelineError: the network ends in something else than a head of dense layers, pooling,
            dropout and activations; see also `trace`.
    """
    traced = trace(network, input_shape)
    grid: _Grid | None = None
    for node in _head(traced):
        grid = _convert(traced, node, grid)
    if grid is not None and not grid.is_point:
        raise _unsuitable("no dense layer reads what it flattens")
    traced.module.delete_all_unused_submodules()
    traced.module.recompile()
    return traced.module.eval()


@dataclass(frozen=True)
class _Grid:
    """How the values of one channel in a vector come from a map of h x w in training.

    Attributes:
        rows: p x h; columns: q x w. Value (i, j) is rows[i] @ map @ columns[j].
    """

    rows: Tensor
    columns: Tensor

    @property
    def is_point(self) -> bool:
        """Whether it is the map itself, of 1 x 1."""
        return self.rows.numel() == self.columns.numel() == 1


_POINT = _Grid(torch.ones(1, 1), torch.ones(1, 1))


def _result(traced: Traced) -> fx.Node:
    """Return the node whose tensor the network returns."""
    (node,) = traced.module.graph.output_node().all_input_nodes
    return node


def _head(traced: Traced) -> list[fx.Node]:
    """List the nodes from the one that reads the last map to the one that makes the logits."""
    found: list[fx.Node] = []
    node = _result(traced)
    while len(traced.inputs(node)) == 1 and _is_of_head(traced, node):
        found.append(node)
        (node,) = traced.inputs(node)
    if len(traced.shapes[node]) != _MAP:
        raise _unsuitable(f"its head holds {node.name}")
    return found[::-1]


def _is_of_head(traced: Traced, node: fx.Node) -> bool:
    layer = traced.layer(node)
    if layer is not None:
        return isinstance(layer, (*_KEPT, nn.Linear, nn.Flatten, nn.AdaptiveAvgPool2d))
    return node.target in (*_KEPT_FUNCTIONS, *_POOLS, *_FLATTENS)


def _convert(traced: Traced, node: fx.Node, grid: _Grid | None) -> _Grid | None:
    """Let one node of the head work on maps; return what the next dense layer reads."""
    (before,) = traced.inputs(node)
    shape, result = traced.shapes[before], traced.shapes[node]
    layer = traced.layer(node)
    if isinstance(layer, nn.AdaptiveAvgPool2d) or node.target in _POOLS:
        height, width = shape[2:]
        rows, columns = result[2:] or (1, 1)
        if rows == columns == 1:
            _replace(traced, node, nn.AvgPool2d((height, width), stride=1))
            return _POINT
        _skip(traced, node)
        return _Grid(_pooling(height, rows), _pooling(width, columns))
    if isinstance(layer, nn.Flatten) or node.target in _FLATTENS:
        _skip(traced, node)
        return grid or _Grid(torch.eye(shape[2]), torch.eye(shape[3]))
    if isinstance(layer, nn.Linear) and len(result) == _VECTOR:
        _replace(traced, node, _as_convolution(layer, grid or _POINT))
        return _POINT
    if grid is not None and not grid.is_point and not isinstance(layer, nn.Identity | nn.Dropout):
        raise _unsuitable(f"{node.name} stands between its pooling and its dense layer")
    return grid


def _pooling(side: int, outputs: int) -> Tensor:
    """Return the matrix, outputs x side, of adaptive average pooling along one side."""
    return functional.adaptive_avg_pool1d(torch.eye(side)[None], outputs)[0].T


def _as_convolution(dense: nn.Linear, grid: _Grid) -> nn.Conv2d:
    """Return the convolution that does to a map what flattening and the dense layer did."""
    (p, h), (q, w) = grid.rows.shape, grid.columns.shape
    convolution = nn.Conv2d(
        dense.in_features // (p * q), dense.out_features, (h, w), bias=dense.bias is not None
    )
    weight = dense.weight.detach().view(dense.out_features, -1, p, q)
    rows, columns = grid.rows.to(weight), grid.columns.to(weight)
    kernels = torch.einsum("ocpq,ph,qw->ochw", weight, rows, columns)
    convolution.weight = nn.Parameter(kernels.contiguous())
    convolution.bias = dense.bias
    return convolution


def _replace(traced: Traced, node: fx.Node, layer: nn.Module) -> None:
    """Let a node call another layer."""
    name = f"head_{node.name}"
    traced.module.add_module(name, layer)
    graph = traced.module.graph
    with graph.inserting_before(node):
        new = graph.call_module(name, (node.all_input_nodes[0],))
    traced.shapes[new] = traced.shapes[node]
    node.replace_all_uses_with(new)
    graph.erase_node(node)


def _skip(traced: Traced, node: fx.Node) -> None:
    node.replace_all_uses_with(node.all_input_nodes[0])
    traced.module.graph.erase_node(node)


def _unsuitable(reason: str) -> PipelineError:
    return PipelineError(
        f"the network cannot be made fully convolutional, since {reason}; expected, behind the last"
        " map, pooling, flattening, dense layers, activations and dropout alone"
    )
