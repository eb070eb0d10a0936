"""What balancing did: the class histogram, and copies beside their originals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.evaluation.plots._style import BLUE, ORANGE, new_figure, show_image
from pipeline.evaluation.plots._text import named

_NAMES_AT_MOST = 120  # more do not fit beneath an axis


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
    """Draw the images of each class, most frequent first, with its copies on top.

    Args:
        classes: names.
        before: originals of each class.
        copies: synthetic images of each class.
    """
    order = np.argsort(-before, kind="stable")
    figure = new_figure(min(max(0.35 * len(classes) + 2, 5), 15), 4)
    axes = figure.subplots()
    places = np.arange(len(classes))
    axes.bar(places, before[order], color=BLUE, label=f"original ({before.sum():,})")
    axes.bar(
        places,
        copies[order],
        bottom=before[order],
        color=ORANGE,
        label=f"synthetic ({copies.sum():,})",
    )
    axes.set_ylabel("training images")
    axes.margins(x=0.01)
    axes.set_ylim(0, 1.05 * max((before + copies).max(initial=0), 1))
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", ncols=2, frameon=False)
    _name_classes(axes, [named(classes[i]) for i in order])
    return figure


def _name_classes(axes: Axes, names: Sequence[str]) -> None:
    if len(names) > _NAMES_AT_MOST:
        axes.set_xlabel(f"{len(names)} classes, most frequent first")
        return
    upright = len(names) > 20 or max(map(len, names), default=0) * len(names) > 60
    axes.set_xticks(
        range(len(names)),
        names,
        rotation=90 if upright else 0,
        fontsize=9 if len(names) <= 45 else 6,
        parse_math=False,
    )


def sheet(rows: Sequence[SheetRow]) -> Figure:
    """Draw each row's original and, to its right, its copies."""
    columns = 1 + max((len(row.copies) for row in rows), default=0)
    figure = new_figure(0.85 * columns + 1.2, 0.85 * max(len(rows), 1) + 0.5)
    if not rows:
        figure.text(0.5, 0.5, "no copies were made", ha="center", va="center")
        return figure
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes_of_row, row in zip(grid, rows, strict=True):
        for axes in axes_of_row:
            axes.set_axis_off()
        for axes, image in zip(axes_of_row, (row.original, *row.copies), strict=False):
            show_image(axes, image)
        # Axis labels go with the axis; text stays.
        axes_of_row[0].text(
            -0.12,
            0.5,
            named(row.label),
            transform=axes_of_row[0].transAxes,
            ha="right",
            va="center",
            fontsize=9,
            parse_math=False,
        )
    grid[0, 0].set_title("original", fontsize=9, color=BLUE)
    grid[0, 1].set_title("copies", fontsize=9, color=ORANGE, loc="left")
    return figure
