"""The layers of a network: volumes, windows, parameters, operations, memory, receptive fields."""

from collections import Counter
from collections.abc import Sequence
from math import prod
from operator import attrgetter

from torch import fx, nn

from pipeline.evaluation.reports.network import Layer, NetworkReport, ReceptiveField
from pipeline.vision.anatomy._operations import VIEWS, Operation, Seen, operate
from pipeline.vision.anatomy.receptive_field import Field
from pipeline.vision.anatomy.trace import Shape, Traced, trace

_FLOAT32 = 4  # bytes
# Neither computes nor changes what a volume holds.
_HIDDEN = {"identity", "permute", "transpose", "view"}


def describe_network(name: str, network: nn.Module, shape: Shape) -> NetworkReport:
    """Describe what a network, in evaluation mode, does to one image.

    Args:
        name: of the network.
        network: n x channels x height x width to n x classes; it stays as it is.
        shape: channels, height, width of the image.

    Raises:
        PipelineError: see `trace`; or an operation that is not known here.
    """
    traced = trace(network, shape)
    operations = _operations(traced, shape)
    names, counted = Counter[str](), set[nn.Parameter]()
    layers = []
    for node, operation in operations.items():
        parameters = _parameters(traced, node) - counted
        counted |= parameters
        if operation.kind in _HIDDEN or (operation.kind == "split" and len(node.args) > 1):
            continue
        own = str(node.target) if node.op == "call_module" else _function_name(node, operation)
        names[own] += 1
        whole = f"{own}_{names[own]}" if names[own] > 1 else own
        layers.append(_layer(whole, traced.shapes[node], operation, parameters, shape))
    (result,) = traced.module.graph.output_node().all_input_nodes
    return NetworkReport(
        network=name,
        input=shape,
        classes=traced.shapes[result][1],
        branches=any(len(traced.inputs(node)) > 1 for node in operations),
        layers=tuple(layers),
    )


def receptive_fields(network: nn.Module, shape: Shape) -> dict[str, tuple[Field, Field]]:
    """Return the receptive fields behind each operation, along height and width, by its name.

    Args:
        network: see `describe_network`.
        shape: likewise.

    Raises:
        PipelineError: likewise.
    """
    operations = _operations(trace(network, shape), shape)
    return {node.name: (one.seen.rows, one.seen.columns) for node, one in operations.items()}


def _operations(traced: Traced, shape: Shape) -> dict[fx.Node, Operation]:
    """Return what each node does that returns a tensor made of the image."""
    image = Seen(Field.of_image(shape[1]), Field.of_image(shape[2]))
    seen: dict[fx.Node, Seen] = {}
    found: dict[fx.Node, Operation] = {}
    for node in traced.module.graph.nodes:
        if node.op == "placeholder":
            seen[node] = image
        elif node.op != "output" and (inputs := traced.inputs(node)) and node in traced.shapes:
            found[node] = operate(traced, node, [seen[one] for one in inputs])
            seen[node] = found[node].seen
    return found


def _parameters(traced: Traced, node: fx.Node) -> set[nn.Parameter]:
    """Return the parameters that a node uses: of its layer, or as arguments of its function."""
    layer = traced.layer(node)
    if layer is not None:
        return set(layer.parameters())
    given = (str(n.target) for n in node.all_input_nodes if n.op == "get_attr")
    held = (attrgetter(name)(traced.module) for name in given)
    return {one for one in held if isinstance(one, nn.Parameter)}


def _layer(
    name: str,
    shape: Sequence[int],
    operation: Operation,
    parameters: set[nn.Parameter],
    image: Shape,
) -> Layer:
    """Describe one node, which returns a tensor of `shape`."""
    seen = operation.seen
    places = seen.places or ()
    channels = prod(side for place, side in enumerate(shape) if place and place not in places)
    rows, columns = seen.rows, seen.columns
    return Layer(
        name=name,
        kind=operation.kind,
        output=(channels, *(shape[place] for place in places)),
        window=operation.window,
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable=any(one.requires_grad for one in parameters) if parameters else None,
        macs=operation.macs,
        activation_bytes=0 if operation.kind in VIEWS else prod(shape[1:]) * _FLOAT32,
        field=ReceptiveField(
            size=(rows.size, columns.size),
            jump=(rows.jump, columns.jump),
            start=(rows.start, columns.start),
            sees_all=rows.sees_all(image[1]) and columns.sees_all(image[2]),
        ),
    )


def _function_name(node: fx.Node, operation: Operation) -> str:
    """Name a function by the block that calls it, and by what it does."""
    stack: dict[str, object] = node.meta.get("nn_module_stack", {})
    block = list(stack)[-1:]
    return ".".join([*block, operation.kind.replace(" ", "_")])
