"""The operations that a network applies to an image, as a graph with the shape of every volume."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from pipeline.errors import PipelineError, did_you_mean, some

Shape = tuple[int, int, int]  # channels, height, width


@dataclass(frozen=True)
class Traced:
    """A network in evaluation mode as a graph, and what one image makes of it.

    Attributes:
        module: the graph; runs like the network. Its layers are copies.
        shapes: of the tensor that a node returns, with one image as its first dimension; of several
            tensors, that of the first. A node that returns none is not in it.
    """

    module: fx.GraphModule
    shapes: dict[fx.Node, tuple[int, ...]]

    def layer(self, node: fx.Node) -> nn.Module | None:
        """Return the layer that a node calls; None if it calls a function or method."""
        return self.module.get_submodule(str(node.target)) if node.op == "call_module" else None

    def inputs(self, node: fx.Node) -> list[fx.Node]:
        """Return the nodes whose tensors a node takes, without parameters of the network."""
        return [n for n in node.all_input_nodes if n in self.shapes and n.op != "get_attr"]


def trace(network: nn.Module, shape: Shape) -> Traced:
    """Trace a network, and run one black image of `shape` through it.

    Raises:
        PipelineError: the network decides by values what to compute, so that no graph describes
            it; or it does not take images of this shape.
    """
    try:
        module = fx.symbolic_trace(copy.deepcopy(network).eval())
    except fx.proxy.TraceError as error:
        raise PipelineError(
            f"{type(network).__name__} decides by values of its input what it computes ({error});"
            " only networks with fixed operations can be described"
        ) from error
    recorder = _Recorder(module)
    try:
        with torch.inference_mode():
            recorder.run(torch.zeros(1, *shape))
    except (RuntimeError, ValueError) as error:
        channels, height, width = shape
        reason = str(error).splitlines()[0]
        raise PipelineError(
            f"the network does not take {height} x {width} px images of {channels} channels"
            f" ({reason}); give a larger size"
        ) from error
    return Traced(module, recorder.shapes)


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps shapes; fx's own ShapeProp imports torch's compiler, for a second."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        first = result[0] if isinstance(result, tuple | list) and result else result
        if isinstance(first, Tensor):
            self.shapes[n] = tuple(first.shape)
        return result


def find_convolution(network: nn.Module, shape: Shape, name: str) -> tuple[str, nn.Conv2d, Shape]:
    """Return the whole name of a convolution, the convolution, and the shape of its input.

    Args:
        network: that takes images of `shape`.
        shape: channels, height, width.
        name: of the layer; `extractor.` in front of it may be missing.

    Raises:
        PipelineError: see `trace`; or there is no convolution of this name.
    """
    traced = trace(network, shape)
    found = {
        str(node.target): (layer, traced.shapes[traced.inputs(node)[0]][1:])
        for node in traced.shapes
        if isinstance(layer := traced.layer(node), nn.Conv2d)
    }
    whole = name if name in found else f"extractor.{name}"
    if whole not in found:
        near = did_you_mean(whole, found) or f"; it has {some(sorted(found), 5)}"
        raise PipelineError(f"the network has no convolution '{name}'{near}")
    layer, (channels, height, width) = found[whole]
    return whole, layer, (channels, height, width)
