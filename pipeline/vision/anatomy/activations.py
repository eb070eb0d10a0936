"""What the first layer looks for, and what the layers make of one image."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn

from pipeline.errors import PipelineError
from pipeline.vision.anatomy.trace import Traced, trace

_MAP = 4  # dimensions, with that of images
Maps = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Activation:
    """What a layer makes of one image.

    Attributes:
        name: of the layer.
        maps: channels x height x width, those with the largest standard deviation first.
        channels: how many the layer has.
    """

    name: str
    maps: Maps
    channels: int


def first_filters(network: nn.Module) -> tuple[str, Maps]:
    """Return the name and the weights (filters x channels x height x width) of the first layer.

    Raises:
        PipelineError: the network has no convolution.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            return name, module.weight.detach().float().cpu().numpy()
    raise PipelineError("the network has no convolution, and so no filters to draw")


def activations(network: nn.Module, image: Tensor, layers: int, maps: int) -> list[Activation]:
    """Run an image through a network and keep maps from its input to its output.

    Of successive layers whose volumes are equally large, only the last is kept.

    Args:
        network: n x channels x height x width to n x classes.
        image: 1 x channels x height x width, as the network takes it.
        layers: at most so many are kept, spread evenly over the depth.
        maps: at most so many of each.

    Raises:
        PipelineError: see `trace`.
    """
    _, channels, height, width = image.shape
    traced = trace(network, (channels, height, width))
    kept = _spread(_changes(traced), layers)
    recorder = _Recorder(traced.module, {node for _, node in kept})
    with torch.inference_mode():
        recorder.run(image)
    found = []
    for name, node in kept:
        volume = recorder.volumes[node]
        order = np.argsort(-volume.std(axis=(1, 2)), kind="stable")[:maps]
        found.append(Activation(name, volume[order], len(volume)))
    return found


def _changes(traced: Traced) -> list[tuple[str, fx.Node]]:
    """List the layers, with their names, behind which the size of the volume changes."""
    nodes = [
        node
        for node, shape in traced.shapes.items()
        if node.op == "call_module" and len(shape) == _MAP and shape[2] * shape[3] > 1
    ]
    followed = zip(nodes, [*nodes[1:], None], strict=True)
    return [
        (str(node.target), node)
        for node, after in followed
        if after is None or traced.shapes[after] != traced.shapes[node]
    ]


def _spread(items: list[Any], count: int) -> list[Any]:
    """Keep at most `count` items, the first and the last among them."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the volumes of some nodes: channels x height x width."""

    def __init__(self, module: fx.GraphModule, nodes: set[fx.Node]) -> None:
        super().__init__(module)
        self._nodes = nodes
        self.volumes: dict[fx.Node, Maps] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self._nodes:  # copied, since a layer behind it may write in place
            self.volumes[n] = result[0].float().cpu().numpy().copy()
        return result
