"""The map of the latent space."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pipeline.evaluation.plots._classes import Symbol, symbol
from pipeline.evaluation.plots._labels import place_labels
from pipeline.evaluation.plots._style import DPI, PAGE_WIDTH
from pipeline.evaluation.plots._text import all_named, named, width_of

_HEIGHT, _TITLE_HEIGHT, _EDGE = 7.6, 0.3, 0.05  # inches
_EDGE_COLOUR = "#333333"  # of the points: light colours stand out from white
_POINTS = 72.0  # per inch
_MARGIN = 0.04  # of the axes' sides, around the points
_FEW = 20  # classes, whose names may be larger and longer, and which a legend has room for
_MOST_NAMED = 100  # of more classes only the largest have room for a name
_LEGEND_NAME, _LEGEND_FONT = 170.0, 8.0  # points


def draw_map(
    points: npt.NDArray[np.float64],
    labels: npt.NDArray[np.integer],
    classes: Sequence[str],
    title: str,
) -> Figure:
    """Draw each image as a point and name each class near its median point.

    Names do not overlap while there is room; a line leads from one that had to move. Beside a map
    of at most 20 classes stands a legend, which has room for longer names.

    Args:
        points: n x 2.
        labels: n class numbers.
        classes: k names. Colours and markers together repeat beyond 100 classes; names do not.
        title: how the map was made.
    """
    figure = Figure(figsize=(PAGE_WIDTH, _HEIGHT), dpi=DPI)
    counts = np.bincount(labels, minlength=len(classes))
    symbols = [symbol(number) for number in range(len(classes))]
    legend = 0.0
    if len(classes) <= _FEW:
        legend = _draw_legend(figure, symbols, classes, counts)
    sides = np.array([PAGE_WIDTH - 2 * _EDGE - legend, _HEIGHT - _TITLE_HEIGHT - _EDGE])
    corner = np.array([_EDGE, _EDGE])
    axes = figure.add_axes((*(corner / figure.get_size_inches()), *(sides / (PAGE_WIDTH, _HEIGHT))))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color="#cccccc")
    axes.set_title(title, loc="left", fontsize=10)
    # Points of the axes, 1/72 inch, in which names have a size too.
    area = sides * _POINTS
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.maximum(high - low, 1e-12)
    places = area * (_MARGIN + (1 - 2 * _MARGIN) * (points - low) / span)
    axes.set_xlim(0, area[0])
    axes.set_ylim(0, area[1])
    size, edge = (18, 0.3) if len(places) <= 3000 else (5, 0.0)
    for colour, marker in dict.fromkeys(symbols):  # of thousands of classes many share one
        shared = [label for label, symbol in enumerate(symbols) if symbol == (colour, marker)]
        x, y = places[np.isin(labels, shared)].T
        drawn = axes.scatter(x, y, size, color=colour, marker=marker, alpha=0.85, linewidths=edge)
        drawn.set_edgecolor(_EDGE_COLOUR)
    _name(axes, places, labels, classes, symbols)
    return figure


def _draw_legend(
    figure: Figure, symbols: Sequence[Symbol], classes: Sequence[str], counts: npt.NDArray[np.intp]
) -> float:
    """List the classes that have points, right of the map; return the width, in inches."""
    rows, widest = [], 70.0  # of the title, in points
    for one, name, count in zip(symbols, classes, counts, strict=True):
        if count:
            label = f"{named(name, _LEGEND_NAME, _LEGEND_FONT)} ({count})"
            rows.append(Line2D([], [], color=one.colour, marker=one.marker, ls="", label=label))
            widest = max(widest, width_of(label, _LEGEND_FONT))
    legend = figure.legend(
        handles=rows,
        loc="upper right",
        bbox_to_anchor=(1.0, 1 - _TITLE_HEIGHT / _HEIGHT),
        frameon=False,
        fontsize=_LEGEND_FONT,
        markerscale=0.9,
        borderaxespad=0.0,
        title="class (images)",
        title_fontsize=_LEGEND_FONT,
        alignment="left",
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return (widest + 34.0) / _POINTS


def _name(
    axes: Axes,
    places: npt.NDArray[np.float64],
    labels: npt.NDArray[np.integer],
    classes: Sequence[str],
    symbols: Sequence[Symbol],
) -> None:
    """Write the names of the classes that have points, of the largest where there are many."""
    size, width = (10.0, 120.0) if len(classes) <= _FEW else (7.0, 80.0)  # points
    counts = np.bincount(labels, minlength=len(classes))
    most = np.sort(np.argsort(-counts, kind="stable")[:_MOST_NAMED])
    present = [int(label) for label in most if counts[label]]
    names = all_named([classes[label] for label in present], width, size)
    anchors = np.array([_median_point(places[labels == label]) for label in present])
    sizes = np.array([(width_of(name, size) * 1.1 + 3, 1.25 * size) for name in names])
    area = axes.get_xlim()[1], axes.get_ylim()[1]
    middles = place_labels(anchors, sizes, area)
    halo = [patheffects.withStroke(linewidth=2.5, foreground="white")]
    far = (np.abs(middles - anchors) > sizes / 2 + (0, 0.5 * size)).any(axis=1)
    for label, name, anchor, middle, moved in zip(
        present, names, anchors, middles, far, strict=True
    ):
        if moved:
            line = axes.plot(
                *np.stack([anchor, middle]).T, color=symbols[label].colour, linewidth=0.9
            )
            line[0].set_path_effects([patheffects.withStroke(linewidth=2, foreground="white")])
        axes.text(
            float(middle[0]),
            float(middle[1]),
            name,
            fontsize=size,
            ha="center",
            va="center_baseline",
            weight="bold",
            color="#222222",
            path_effects=halo,
            parse_math=False,
        )


def _median_point(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the point that is nearest to the median of all."""
    found: npt.NDArray[np.float64]
    found = points[np.abs(points - np.median(points, axis=0)).sum(axis=1).argmin()]
    return found
