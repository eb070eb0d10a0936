"""Precision-recall curves, from 2 classes to hundreds."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.evaluation.metrics.precision_recall import Curve
from pipeline.evaluation.plots._classes import Symbol, symbol
from pipeline.evaluation.plots._style import PAGE_WIDTH, calm, new_figure
from pipeline.evaluation.plots._text import named, width_of

_ALL_NAMED = 10  # classes; of more the worst and the best have names
_BETWEEN = "#c4c4c4"
_NAME_WIDTH, _FONT = 190.0, 8.0  # points


def draw_precision_recall(
    curves: Mapping[str, Curve], average: Mapping[str, float | None], title: str
) -> Figure:
    """Draw a curve per class. Up to ten have colours and names, of more the three at either end.

    Args:
        curves: by class name, in the order of the classes.
        average: average precision by class name; None for a class without images.
        title: what the curves are of.
    """
    known = {name: value for name, value in average.items() if value is not None}
    ranked = sorted(known, key=lambda name: (known[name], name))
    chosen = ranked if len(ranked) <= _ALL_NAMED else [*ranked[:3], *ranked[-3:]]
    others = [name for name in ranked if name not in chosen]
    texts = {name: f"{known[name]:.3f}  {named(name, _NAME_WIDTH, _FONT)}" for name in chosen}
    widest = max((width_of(text, _FONT) for text in texts.values()), default=0.0)
    figure = new_figure(min(6.4 + widest / 72, PAGE_WIDTH), 4.6)
    axes = figure.add_subplot()
    for name in others:
        thin = Symbol(_BETWEEN, "")
        _draw(axes, curves[name], thin, width=0.7, alpha=0.5 if len(others) > 20 else 0.9)
    symbols = {name: symbol(number) for number, name in enumerate(curves)}
    # The worst is drawn last, upon the others.
    lines = {
        name: _draw(axes, curves[name], symbols[name], width=1.6, alpha=1.0)
        for name in reversed(chosen)
    }
    rows = [(lines[name], texts[name]) for name in chosen]
    if others:
        between = Line2D([], [], color=_BETWEEN, linewidth=1.2)
        rows.insert(3, (between, f"{len(others)} between"))
    axes.set_xlabel("recall: share of the class that is found")
    axes.set_ylabel("precision: share of the found that is right")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.03)
    calm(axes)
    axes.set_title(title, loc="left", fontsize=10, parse_math=False)
    legend = figure.legend(
        *zip(*rows, strict=True),
        loc="outside right upper",
        frameon=False,
        fontsize=_FONT,
        title="average precision",
        title_fontsize=_FONT,
        alignment="left",
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _draw(axes: Axes, curve: Curve, how: Symbol, *, width: float, alpha: float) -> Line2D:
    """Draw steps: each precision holds from the recall before up to its own."""
    recall = np.r_[0.0, curve.recall]
    precision = np.r_[curve.precision[0], curve.precision]
    return axes.plot(
        recall,
        precision,
        color=how.colour,
        marker=how.marker,
        markevery=(0.06, 0.16),  # of the length of the axes' diagonal
        markersize=5,
        linewidth=width,
        alpha=alpha,
        drawstyle="steps-pre",
    )[0]
