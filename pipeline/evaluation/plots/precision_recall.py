"""Precision-recall curves, from 2 classes to hundreds."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.evaluation.metrics.precision_recall import Curve
from pipeline.evaluation.plots._style import GREY, calm, new_figure
from pipeline.evaluation.plots._text import named

# Okabe and Ito's: the worst in warm colours, the best in cold ones.
_WARM = ("#D55E00", "#E69F00", "#CC79A7")
_COLD = ("#009E73", "#56B4E9", "#0072B2")

_NAME_WIDTH = 120.0  # points


def draw_precision_recall(
    curves: Mapping[str, Curve], average: Mapping[str, float | None], title: str
) -> Figure:
    """Draw a curve per class; the three worst and the three best have colours and names.

    Args:
        curves: by class name.
        average: average precision by class name; None for a class without images.
        title: what the curves are of.
    """
    figure = new_figure(7.6, 4.6)
    axes = figure.add_subplot()
    known = {name: value for name, value in average.items() if value is not None}
    ranked = sorted(known, key=lambda name: (known[name], name))
    worst, best = _ends(ranked)
    others = [name for name in ranked if name not in {*worst, *best}]
    for name in others:
        _draw(axes, curves[name], GREY, width=0.7, alpha=0.35 if len(others) > 20 else 0.6)
    cold = dict(zip(best, _COLD, strict=False))
    warm = dict(zip(worst, _WARM, strict=False))
    lines = {
        name: _draw(axes, curves[name], colour, width=1.7, alpha=1.0)
        for name, colour in (cold | warm).items()
    }
    named_lines = [
        (lines[name], f"{known[name]:.3f}  {named(name, _NAME_WIDTH, 8.0)}") for name in worst
    ]
    if others:
        between = Line2D([], [], color=GREY, linewidth=0.9)
        named_lines.append((between, f"{len(others)} between"))
    named_lines += [
        (lines[name], f"{known[name]:.3f}  {named(name, _NAME_WIDTH, 8.0)}") for name in best
    ]
    axes.set_xlabel("recall: share of the class that is found")
    axes.set_ylabel("precision: share of the found that is right")
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.03)
    calm(axes)
    axes.set_title(title, loc="left", fontsize=10, parse_math=False)
    legend = figure.legend(
        [line for line, _ in named_lines],
        [text for _, text in named_lines],
        loc="outside right upper",
        frameon=False,
        fontsize=8,
        title="average precision",
        title_fontsize=8,
        alignment="left",
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _ends(ranked: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split off the worst and the best, at most three each, without overlap."""
    worst = list(ranked[: min(3, -(-len(ranked) // 2))])
    rest = [name for name in ranked if name not in worst]
    return worst, rest[-3:]


def _draw(axes: Axes, curve: Curve, colour: str, *, width: float, alpha: float) -> Line2D:
    """Draw steps: each precision holds from the recall before up to its own."""
    recall = np.r_[0.0, curve.recall]
    precision = np.r_[curve.precision[0], curve.precision]
    return axes.plot(
        recall, precision, color=colour, linewidth=width, alpha=alpha, drawstyle="steps-pre"
    )[0]
