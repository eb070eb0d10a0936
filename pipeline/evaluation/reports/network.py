"""network.json: the layers of a network, one by one, and their sums."""

from collections.abc import Iterable
from typing import Literal

from pydantic import computed_field

from pipeline.evaluation.reports.schema import Part

Pair = tuple[int, int]  # along height and width
Cost = Literal["parameters", "macs", "activation_bytes"]
_LARGEST = 3  # parts that are named
_MOST = 0.8  # of all layers
COSTS: tuple[Cost, ...] = ("parameters", "macs", "activation_bytes")


class Window(Part):
    """The window that a layer moves over its input; each pair is for height and width.

    Attributes:
        kernel: units in the window.
        stride: units from one window to the next.
        padding: units before the first row and column.
        dilation: units from one of the window to the next.
        groups: into which channels are parted; 1 for pooling, which never mixes channels.
    """

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int


class ReceptiveField(Part):
    """The pixels of the image that one unit of a layer can depend on.

    Of several paths from the image to the unit, the longest counts. Pairs are for height and width.

    Attributes:
        size: pixels, padding among them, so that it may be larger than the image.
        jump: pixels from one unit's field to the next; 0 where all see the same.
        start: the middle of the first unit's field; the middle of the first pixel is 0.5.
        sees_all: whether each unit sees the whole image.
    """

    size: Pair
    jump: tuple[float, float]
    start: tuple[float, float]
    sees_all: bool


class Layer(Part):
    """One operation of a network on one image.

    Attributes:
        name: of the layer; of a function, the name of the block in which it is called, and its own.
        kind: what it does, in words.
        output: channels, height, width; or features alone.
        window: None where the layer has none.
        parameters: that are first used here.
        trainable: or frozen; None where there are no parameters.
        macs: multiply-accumulates of convolutions and dense layers.
        activation_bytes: of the output in float32; 0 where it is the input in another shape.
        field: see `ReceptiveField`.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    window: Window | None
    parameters: int
    trainable: bool | None
    macs: int
    activation_bytes: int
    field: ReceptiveField


class NetworkReport(Part):
    """The layers of a network in the order in which an image passes them.

    Attributes:
        network: name.
        input: channels, height, width of an image.
        classes: number of outputs.
        branches: whether paths part and meet, so that receptive fields are of the longest one.
        layers: all that compute something or reshape what they get.
    """

    network: str
    input: tuple[int, int, int]
    classes: int
    branches: bool
    layers: tuple[Layer, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def totals(self) -> dict[str, int]:
        """The sums over the layers: of each cost, and of the trainable parameters."""
        trained = sum(layer.parameters for layer in self.layers if layer.trainable)
        return dict(_sums(self.layers).items(), trainable_parameters=trained)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def most(self) -> dict[Cost, dict[str, int]]:
        """For each cost, the parts of the network with most of it, the largest first."""
        sums = {name: _sums(layers) for name, layers in self.parts().items()}
        found: dict[Cost, dict[str, int]] = {}
        for cost in COSTS:
            names = sorted(sums, key=lambda name, cost=cost: -sums[name][cost])  # type: ignore[misc]
            found[cost] = {name: sums[name][cost] for name in names[:_LARGEST] if sums[name][cost]}
        return found

    def parts(self) -> dict[str, list[Layer]]:
        """Group the layers by the blocks that the network is made of.

        Names are cut off at the first level at which no block holds most of all layers.
        """
        depth = 1
        while True:
            found: dict[str, list[Layer]] = {}
            for layer in self.layers:
                found.setdefault(".".join(layer.name.split(".")[:depth]), []).append(layer)
            largest = max(found, key=lambda name: len(found[name]))
            if len(found[largest]) < _MOST * len(self.layers) or len(found[largest]) == 1:
                return found
            depth += 1


def _sums(layers: Iterable[Layer]) -> dict[Cost, int]:
    found = list(layers)
    return {cost: sum(getattr(layer, cost) for layer in found) for cost in COSTS}
