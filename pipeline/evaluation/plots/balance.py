"""What balancing did: the class histogram, and copies beside their originals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from pipeline.evaluation.plots._classes import lighter, symbol
from pipeline.evaluation.plots._style import (
    BLUE,
    GREY,
    PAGE_WIDTH,
    new_figure,
    show_image,
)
from pipeline.evaluation.plots._text import all_named, width_of, wrapped
from pipeline.evaluation.plots.levels import white_of

_FONT = 9.0  # points
_NAME_WIDTH, _NARROW_NAME = 200.0, 110.0  # points
_LYING_IN_ONE_PANEL = 40
_GAP = 0.1  # between two images of a sheet, as a share of their width
_NAMES_AT_MOST = 120  # more are no longer read one by one

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SheetRow:
    """One line of the sheet.

    Attributes:
        label: class name.
        original: height x width x channels, uint8 or uint16.
        copies: n x height x width x channels, at least one.
    """

    label: str
    original: npt.NDArray[Any]
    copies: npt.NDArray[Any]


def histogram(
    classes: Sequence[str], before: npt.NDArray[np.int64], copies: npt.NDArray[np.int64]
) -> Figure:
    """Draw the images of each class, most frequent first, with its copies on top, lighter.

    Standing bars while names fit beneath them, or where there are too many for names; else lying
    ones, in two panels where they are many. Bars that have names have the colours of the classes.

    Args:
        classes: names.
        before: originals of each class.
        copies: synthetic images of each class.
    """
    order = np.argsort(-before, kind="stable")
    counts = before[order], copies[order]
    if len(classes) > _NAMES_AT_MOST:
        figure = _standing(*counts, [], [BLUE] * len(classes), PAGE_WIDTH)
        figure.axes[0].set_xlabel(f"{len(classes)} classes, most frequent first")
    else:
        names, colours = [classes[i] for i in order], [symbol(int(i)).colour for i in order]
        place = max(width_of(name, _FONT) + 8 for name in names) / 72
        width = max(0.32 * len(names) + 2, place * (len(names) + 0.5) + 1, 5)
        if width <= PAGE_WIDTH:
            figure = _standing(*counts, names, colours, width)
        else:
            figure = _lying(*counts, names, colours)
    kinds = (("original", before, GREY), ("synthetic", copies, lighter(GREY)))
    patches = [
        Patch(facecolor=colour, edgecolor=GREY, label=f"{kind} ({of.sum():,})")
        for kind, of, colour in kinds
    ]
    figure.legend(handles=patches, loc="outside upper left", ncols=2, frameon=False)
    return figure


def _standing(
    before: Counts, copies: Counts, names: Sequence[str], colours: Sequence[str], width: float
) -> Figure:
    figure = new_figure(width, 4)
    axes = figure.subplots()
    places = np.arange(len(before))
    axes.bar(places, before, color=colours)
    light = list(map(lighter, colours))
    axes.bar(places, copies, bottom=before, color=light, edgecolor=colours, linewidth=0.6)
    axes.set_ylabel("training images")
    axes.set_xticks(range(len(names)), names, fontsize=_FONT, parse_math=False)
    axes.set_ylim(0, 1.05 * max((before + copies).max(initial=0), 1))
    axes.set_xlim(-0.7, len(before) - 0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _lying(before: Counts, copies: Counts, names: Sequence[str], colours: Sequence[str]) -> Figure:
    panels = 1 if len(names) <= _LYING_IN_ONE_PANEL else 2
    height = -(-len(names) // panels)
    size = _FONT if height <= 30 else 7.0
    room = _NAME_WIDTH if panels == 1 else _NARROW_NAME
    shown = all_named(names, room, size)
    widest = max(width_of(name, size) for name in shown) / 72
    width = PAGE_WIDTH if panels == 2 else 4.4 + widest
    figure = new_figure(width, 1.1 + height * 1.45 * size / 72)
    longest = 1.05 * max((before + copies).max(initial=0), 1)
    for panel, axes in enumerate(figure.subplots(1, panels, squeeze=False)[0]):
        rows = slice(panel * height, (panel + 1) * height)
        places = np.arange(len(shown[rows]))
        axes.barh(places, before[rows], color=colours[rows])
        axes.barh(
            places,
            copies[rows],
            left=before[rows],
            color=list(map(lighter, colours[rows])),
            edgecolor=colours[rows],
            linewidth=0.6,
        )
        axes.set_yticks(places, shown[rows], fontsize=size, parse_math=False)
        axes.set_ylim(height - 0.4, -0.6)
        axes.set_xlim(0, longest)
        axes.set_xlabel("training images")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def sheet(rows: Sequence[SheetRow]) -> Figure:
    """Draw each row's original and, to its right, its copies."""
    columns = 1 + max((len(row.copies) for row in rows), default=0)
    figure = new_figure(0.8 * columns + 1.5, 0.8 * max(len(rows), 1) + 0.5)
    if not rows:
        figure.text(0.5, 0.5, "no copies were made", ha="center", va="center")
        return figure
    # One picture for each row: matplotlib needs a second for a hundred of them.
    grid = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axes, row in zip(grid, rows, strict=True):
        axes.set_axis_off()
        show_image(axes, _strip(row, columns))
        axes.text(
            -0.12 / columns,
            0.5,
            "\n".join(wrapped(row.label, _NARROW_NAME, _FONT, most=4)),
            transform=axes.transAxes,
            ha="right",
            va="center",
            fontsize=_FONT,
            parse_math=False,
        )
    heading = {"transform": grid[0].transAxes, "va": "bottom", "fontsize": _FONT}
    for words, column in (("original", 0), ("copies", 1)):
        grid[0].text(column / columns, 1.1, words, **heading)
    return figure


def _strip(row: SheetRow, columns: int) -> npt.NDArray[Any]:
    """Put a row's images side by side on white, each in a cell that is wider by a gap."""
    height, width, channels = row.original.shape
    cell = width + max(round(_GAP * width), 1)
    white = max(white_of(image) for image in (row.original, *row.copies))
    strip = np.full((height, columns * cell, channels), white, row.original.dtype)
    for column, image in enumerate((row.original, *row.copies)):
        strip[:, column * cell : column * cell + width] = image
    return strip
