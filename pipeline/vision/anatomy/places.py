"""Where in the image the places of a volume lie."""

from collections.abc import Sequence

from torch import fx, nn

from pipeline.errors import PipelineError
from pipeline.vision.anatomy._operations import Seen, operate
from pipeline.vision.anatomy.receptive_field import Field
from pipeline.vision.anatomy.trace import Shape, trace

# Along one axis, in px: the middle of the first place's receptive field, where the middle of the
# first pixel is 0.5, and the distance to that of the next place.
Axis = tuple[float, float]


def places_of(network: nn.Module, shape: Shape, size: tuple[int, int]) -> tuple[Axis, Axis]:
    """Return where the places of a network's last volume of a size lie, along height and width.

    What is read from all places at once, as squeeze-and-excitation does, moves none of them.

    Args:
        network: in evaluation mode; it stays as it is.
        shape: channels, height, width of the image.
        size: rows and columns of the volume.

    Raises:
        PipelineError: see `trace`; or no operation reads such a volume.
    """
    traced = trace(network, shape)
    seen: dict[fx.Node, Seen] = {}
    found: Seen | None = None
    for node in traced.module.graph.nodes:
        if node.op == "placeholder":
            seen[node] = Seen(Field.of_image(shape[1]), Field.of_image(shape[2]))
        elif node.op != "output" and (inputs := traced.inputs(node)) and node in traced.shapes:
            if traced.shapes[inputs[0]][2:] == size:
                found = seen[inputs[0]]
            seen[node] = operate(traced, node, _local([seen[one] for one in inputs])).seen
    if found is None:
        raise PipelineError(f"no operation of the network reads {size[0]} x {size[1]} places")
    return (found.rows.start, found.rows.jump), (found.columns.start, found.columns.jump)


def _local(volumes: Sequence[Seen]) -> list[Seen]:
    """Put the volume with the most places in the stead of those with a single one."""
    most = max(volumes, key=lambda one: one.rows.units * one.columns.units)
    single = [one.rows.units * one.columns.units == 1 for one in volumes]
    return [most if alone else one for one, alone in zip(volumes, single, strict=True)]
