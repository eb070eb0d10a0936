"""A sheet of images that one of two models has right, and the other wrong."""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
from matplotlib.figure import Figure

from pipeline.evaluation.flips import Flip
from pipeline.evaluation.plots._style import GREEN, ORANGE, new_figure, show_image
from pipeline.evaluation.plots._text import ending, named

_COLUMNS = 6


def draw_flips(flips: Sequence[Flip], images: Sequence[npt.NDArray[Any]], total: int) -> Figure:
    """Draw each image with what A and B say, framed by whether B mended or broke it.

    Args:
        flips: those to show.
        images: of the flips, height x width x channels, uint8 or uint16.
        total: how many flips there are.
    """
    if not flips:
        figure = new_figure(6.0, 1.2)
        figure.text(0.5, 0.5, "No image is right for one model only.", ha="center", va="center")
        return figure
    columns = min(_COLUMNS, max(len(flips), 3))
    rows = -(-len(flips) // columns)
    figure = new_figure(1.75 * columns, 0.5 + 2.3 * rows)
    figure.suptitle(
        f"{len(flips)} of {total} images that A or B alone has right, A left of the arrow",
        fontsize=10,
    )
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in cells:
        axes.set_axis_off()
    for axes, flip, image in zip(cells, flips, images, strict=False):
        show_image(axes, image)
        axes.set_axis_on()
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set(color=GREEN if flip.mended else ORANGE, linewidth=2.5)
        # The mark says it without colours.
        mark = "✓" if flip.mended else "✗"
        lines = (
            f"{mark} {named(flip.true, 20)}",
            f"{named(flip.first, 12)} {flip.first_probability:.0%} →",
            f"{named(flip.second, 12)} {flip.second_probability:.0%}",
        )
        axes.set_title("\n".join(lines), fontsize=8, parse_math=False, linespacing=1.2)
        axes.set_xlabel(ending(flip.path), fontsize=6, color="#666666", parse_math=False)
    return figure
