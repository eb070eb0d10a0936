"""Sheets of images: confident mistakes, suspicious labels, queries and their neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.evaluation.plots._style import GREEN, ORANGE, new_figure, show_image
from pipeline.evaluation.plots._text import ending, named

# height x width x channels, uint8 or uint16.
Image = npt.NDArray[Any]

_COLUMNS = 6


@dataclass(frozen=True)
class Mistake:
    """A wrong answer: the image, its path, the names of both classes, the posterior in [0, 1]."""

    image: Image
    path: str
    true: str
    predicted: str
    probability: float


@dataclass(frozen=True)
class Neighbour:
    """An image of a sheet, the name of its class, and its similarity (None for the query)."""

    image: Image
    label: str
    similarity: float | None


def draw_mistakes(mistakes: Sequence[Mistake], total: int) -> Figure:
    """Draw wrong answers, the most confident first.

    Args:
        mistakes: those to show.
        total: how many there are.
    """
    if not mistakes:
        return _message("No mistakes on the test set.")
    return _draw_cells(
        [
            _Cell(
                one.image,
                f"{named(one.true, 22)}\nsaid {named(one.predicted, 14)}, {one.probability:.0%}",
                one.path,
            )
            for one in mistakes
        ],
        f"{len(mistakes)} of {total} mistakes, the most confident first",
    )


def draw_suspects(suspects: Sequence[Mistake], total: int) -> Figure:
    """Draw images whose label looks wrong, the most suspicious first.

    Args:
        suspects: those to show; `true` is the label as given, `predicted` the suggested one, with
            its probability.
        total: how many there are.
    """
    if not suspects:
        return _message("No label looks wrong.")
    return _draw_cells(
        [
            _Cell(
                one.image,
                f"is {named(one.true, 20)}\nor {named(one.predicted, 16)}, {one.probability:.0%}?",
                one.path,
            )
            for one in suspects
        ],
        f"{len(suspects)} of {total} suspicious labels, the most suspicious first",
    )


@dataclass(frozen=True)
class _Cell:
    image: Image
    title: str
    path: str


def _message(text: str) -> Figure:
    figure = new_figure(6.0, 1.2)
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure


def _draw_cells(cells: Sequence[_Cell], heading: str) -> Figure:
    """Draw images in rows, with a title above and the end of the path beneath each."""
    columns = min(_COLUMNS, max(len(cells), 3))
    rows = -(-len(cells) // columns)
    figure = new_figure(1.65 * columns, 0.5 + 2.05 * rows)
    figure.suptitle(heading, fontsize=10)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    for axes, cell in zip(panels, cells, strict=False):
        show_image(axes, cell.image)
        axes.set_title(cell.title, fontsize=8, parse_math=False, linespacing=1.2)
        axes.text(
            0.5,
            -0.04,
            ending(cell.path),
            fontsize=6,
            color="#666666",
            ha="center",
            va="top",
            transform=axes.transAxes,
            parse_math=False,
        )
    return figure


def draw_neighbours(rows: Sequence[tuple[Neighbour, Sequence[Neighbour]]]) -> Figure:
    """Draw one query per row and its neighbours, nearest first, framed by right or wrong."""
    width = 1 + max((len(found) for _, found in rows), default=0)
    figure = new_figure(1.35 * width, 0.4 + 1.45 * max(len(rows), 1))
    cells = figure.subplots(max(len(rows), 1), width, squeeze=False)
    for axes in cells.ravel():
        axes.set_axis_off()
    for line, (query, found) in zip(cells, rows, strict=False):
        show_image(line[0], query.image)
        line[0].set_title(f"query: {named(query.label, 14)}", fontsize=8, parse_math=False)
        for axes, neighbour in zip(line[1:], found, strict=False):
            right = neighbour.label == query.label
            show_image(axes, neighbour.image)
            _frame(axes, GREEN if right else ORANGE)
            # The mark says it without colours.
            mark = "✓" if right else "✗"
            axes.set_title(
                f"{mark} {named(neighbour.label, 13)} {neighbour.similarity:.2f}",
                fontsize=8,
                parse_math=False,
            )
    return figure


def most_confident_mistakes(
    labels: npt.NDArray[np.integer], probabilities: npt.NDArray[np.float64], limit: int
) -> npt.NDArray[np.intp]:
    """Return the rows of wrong answers, the most confident first, at most `limit`."""
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    order = np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")
    return wrong[order[:limit]]


def _frame(axes: Axes, colour: str) -> None:
    axes.set_axis_on()
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color=colour, linewidth=2.5)
