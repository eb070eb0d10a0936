"""The matrix of a convolution: entries that are one weight have one colour."""

import colorsys
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from pipeline.errors import PipelineError
from pipeline.evaluation.plots._style import DPI, PAGE_WIDTH

MAX_SIDE = 5000  # entries
_GOLDEN = 0.618034  # turns of hue between two weights, so that neighbours look different
_MARGINS = (0.75, 0.75)  # inches at the left and top, for writing
_REST = 0.15  # inches at the right and bottom


def draw_weight_matrix(
    places: npt.NDArray[np.integer[Any]], weights: int, names: tuple[str, str], title: str
) -> Figure:
    """Draw a matrix, each entry at least one pixel large.

    Args:
        places: outputs x inputs; which weight an entry is, counted from 1, and 0 where there is
            none.
        weights: how many there are.
        names: of the inputs and the outputs.
        title: over all of it.

    Raises:
        PipelineError: more than `MAX_SIDE` rows or columns.
    """
    rows, columns = places.shape
    check_size(rows, columns)
    pixels = (PAGE_WIDTH - _MARGINS[0] - _REST) * DPI
    entry = max(1, int(pixels / max(rows, columns)))  # pixels
    width, height = columns * entry / DPI, rows * entry / DPI
    whole = (max(width + _MARGINS[0] + _REST, PAGE_WIDTH), height + _MARGINS[1] + _REST)
    figure = Figure(figsize=whole, dpi=DPI)
    box = (_MARGINS[0] / whole[0], _REST / whole[1], width / whole[0], height / whole[1])
    axes = figure.add_axes(box)
    axes.imshow(places, cmap=_colours(weights), vmin=0, vmax=weights, interpolation="nearest")
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(labelsize=7)
    axes.set_xlabel(names[0], fontsize=8)
    axes.set_ylabel(names[1], fontsize=8)
    figure.text(0.1 / whole[0], 1 - 0.08 / whole[1], title, fontsize=9, va="top")
    return figure


def check_size(rows: int, columns: int) -> None:
    """Make sure that a matrix can be drawn.

    Raises:
        PipelineError: it is too large.
    """
    if max(rows, columns) > MAX_SIDE:
        raise PipelineError(
            f"the matrix has {rows:,} x {columns:,} entries, the limit of a picture is"
            f" {MAX_SIDE:,} x {MAX_SIDE:,}; choose a smaller layer, or a smaller image by --height"
            " and --width"
        )


def _colours(weights: int) -> ListedColormap:
    """Return white for 0, and then one colour for each weight."""
    found = [(1.0, 1.0, 1.0)]
    for number in range(weights):
        light = (0.85, 0.62, 0.95)[number % 3]
        found.append(colorsys.hsv_to_rgb(number * _GOLDEN % 1.0, 0.75, light))
    return ListedColormap(found)
