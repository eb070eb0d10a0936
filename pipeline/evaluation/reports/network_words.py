"""The layers of a network as words: figures as people write them, and a table for a terminal."""

from collections.abc import Sequence
from textwrap import fill

from pipeline.evaluation.reports.network import COSTS, Cost, Layer, NetworkReport, Pair, Window

COST_NAMES: dict[Cost, str] = {
    "parameters": "parameters",
    "macs": "multiply-accumulates",
    "activation_bytes": "activation memory",
}
_THOUSAND = 1000.0
HEADINGS = ("layer", "operation", "output", "parameters", "MACs", "memory", "sees", "jump", "start")
_COLUMNS = 100  # of a terminal
_TEXTS = 3  # the first columns, which stand at the left
_NOTES = (
    "s stride, p padding, d dilation, g groups, * frozen. MACs: multiply-accumulates, and memory:\n"
    "that of the output in float32, of one image. sees: receptive field in pixels, height x width\n"
    "where they differ; jump: to the next unit's; start: the middle of the first unit's, where\n"
    "that of the first pixel is 0.5. all: each unit sees the whole image."
)


def of_cost(value: int, cost: Cost) -> str:
    """Write an amount: parameters in full, others to three digits with a unit."""
    if cost == "parameters":
        return f"{value:,}"
    amount, units = float(value), ["", "k", "M", "G", "T"]
    while amount >= _THOUSAND - 0.5 and len(units) > 1:
        amount /= _THOUSAND
        units.pop(0)
    text = f"{amount:.3g}" if units[0] else f"{value}"
    return f"{text} {units[0]}{'B' if cost == 'activation_bytes' else ''}".strip()


def volume(sides: Sequence[int]) -> str:
    """Write channels, height and width."""
    return " x ".join(map(str, sides))


def operation(layer: Layer) -> str:
    """Write what a layer does, with its window: 'convolution 3x3 s2 p1'."""
    return f"{layer.kind} {_window(layer.window)}" if layer.window else layer.kind


def _window(window: Window) -> str:
    parts = ["x".join(map(str, window.kernel))]
    for letter, pair, usual in (
        ("s", window.stride, 1),
        ("p", window.padding, 0),
        ("d", window.dilation, 1),
    ):
        if pair != (usual, usual):
            parts.append(letter + axes(pair))
    return " ".join([*parts, f"g{window.groups}"] if window.groups > 1 else parts)


def axes(pair: Pair | tuple[float, float]) -> str:
    """Write what holds along height and width, once where both are equal."""
    return "x".join(f"{value:g}" for value in dict.fromkeys(pair))


def field(layer: Layer) -> tuple[str, str, str]:
    """Write what a unit sees, the jump to the next, and the middle of the first."""
    seen = layer.field
    if seen.sees_all:
        return "all", "", ""
    return axes(seen.size), axes(seen.jump), axes(seen.start)


def cells(layer: Layer) -> tuple[str, ...]:
    """Write a layer as one row: see `HEADINGS`; all but its name."""
    costs = [of_cost(getattr(layer, cost), cost) for cost in COSTS]
    costs = [text if getattr(layer, cost) else "" for text, cost in zip(costs, COSTS, strict=True)]
    return (operation(layer), "x".join(map(str, layer.output)), *costs, *field(layer))


def totals(report: NetworkReport) -> list[str]:
    """Say for each cost how much there is, and in which parts of the network most of it is."""
    lines = []
    for cost, noun in COST_NAMES.items():
        total = report.totals[cost]
        most = [f"{name} {amount / total:.0%}" for name, amount in report.most[cost].items()]
        lines.append(f"{of_cost(total, cost)} {noun}: {', '.join(most)}")
    return lines


def paths(report: NetworkReport) -> str:
    """Say of which path the receptive fields are."""
    if report.branches:
        return "Paths part and meet: receptive fields are those of the longest path."
    return "There is one path from the image to the answer."


def trainable(report: NetworkReport) -> str:
    """Say how many of the parameters are trainable."""
    count, total = report.totals["trainable_parameters"], report.totals["parameters"]
    if count == total:
        return "All parameters are trainable."
    return f"{count:,} of {total:,} parameters are trainable; the others are frozen."


def table_text(report: NetworkReport) -> str:
    """Write the table and the totals, for a terminal of 100 columns.

    Layers stand below the name of the block that they belong to. Parameters of frozen layers have
    an asterisk.
    """
    rows: list[tuple[str, ...]] = [HEADINGS]
    block = ""
    for layer in report.layers:
        above, _, own = layer.name.rpartition(".")
        if above != block:
            rows.append((above,))
            block = above
        operation_, output, parameters, *others = cells(layer)
        parameters += "*" * (layer.trainable is False)
        name = f"  {own}" if above else own
        rows.append((name, operation_, output, parameters, *others))
    whole = [row for row in rows if len(row) > 1]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    lines = [_aligned(row, widths) if len(row) > 1 else row[0] for row in rows]
    size = volume(report.input)
    head = f"{report.network}: {size} (channels x height x width) to {report.classes} classes"
    sums = [fill(line, _COLUMNS, subsequent_indent="  ") for line in totals(report)]
    ends = [*sums, paths(report), trainable(report)]
    return "\n".join([head, "", *lines, "", *ends, "", _NOTES])


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    parts = [
        text.ljust(width) if place < _TEXTS else text.rjust(width)
        for place, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
    return " ".join(parts).rstrip()
