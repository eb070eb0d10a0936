"""Sheets of images: confident mistakes, suspicious labels, queries and their neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from pipeline.evaluation.metrics.predictions import Predictions
from pipeline.evaluation.plots._cells import (
    Cell,
    draw_cells,
    draw_message,
    draw_sheet,
    name_lines,
    path_line,
)
from pipeline.evaluation.plots._style import GREEN, ORANGE
from pipeline.evaluation.plots.levels import Image
from pipeline.evaluation.reports.words import cosine_text

_COLUMNS = 6
_SMALL_COLUMNS = 8  # of which queries and neighbours leave some free


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
        return draw_message("No mistakes on the test set.")
    heading = f"{len(mistakes)} of {total} mistakes, the most confident first: true → said"
    return _draw(mistakes, "→ ", heading)


def draw_suspects(suspects: Sequence[Mistake], total: int) -> Figure:
    """Draw images whose label looks wrong, the most suspicious first.

    Args:
        suspects: those to show; `true` is the label as given, `predicted` the suggested one, with
            its probability.
        total: how many there are.
    """
    if not suspects:
        return draw_message("No label looks wrong.")
    heading = (
        f"{len(suspects)} of {total} suspicious labels, the most suspicious first: label, or rather"
    )
    return _draw(suspects, "or ", heading)


def _draw(mistakes: Sequence[Mistake], link: str, heading: str) -> Figure:
    cells = []
    for one in mistakes:
        sure = f", {one.probability:.0%}"
        lines = (
            *name_lines(one.true, _COLUMNS),
            *name_lines(one.predicted, _COLUMNS, before=link, after=sure),
        )
        cells.append(Cell(one.image, lines, (path_line(one.path, _COLUMNS),)))
    return draw_sheet(cells, _COLUMNS, heading)


def draw_neighbours(rows: Sequence[tuple[Neighbour, Sequence[Neighbour]]]) -> Figure:
    """Draw one query per row and its neighbours, nearest first, framed by right or wrong."""
    if not rows:
        return draw_message("No queries.")
    columns = max(_SMALL_COLUMNS, 1 + max(len(found) for _, found in rows))
    sheet = []
    for query, found in rows:
        row = [Cell(query.image, name_lines(query.label, columns), ("query",))]
        for neighbour in found:
            right = neighbour.label == query.label
            assert neighbour.similarity is not None
            row.append(
                Cell(
                    neighbour.image,
                    name_lines(neighbour.label, columns),
                    # The mark says it without colours.
                    (f"{'✓' if right else '✗'} {cosine_text(neighbour.similarity)}",),
                    GREEN if right else ORANGE,
                )
            )
        sheet.append(row)
    return draw_cells(sheet, columns)


def most_confident_mistakes(
    labels: npt.NDArray[np.integer], probabilities: npt.NDArray[np.float64], limit: int
) -> npt.NDArray[np.intp]:
    """Return the rows of wrong answers, the most confident first, at most `limit`."""
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    order = np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")
    return wrong[order[:limit]]


def mistakes_of(
    given: Predictions, rows: npt.NDArray[np.intp], images: Sequence[Image]
) -> list[Mistake]:
    """Describe the wrong answers of some rows, whose images are given."""
    predicted = given.probabilities.argmax(axis=1)
    return [
        Mistake(
            image,
            given.paths[row],
            given.classes[given.labels[row]],
            given.classes[predicted[row]],
            float(given.probabilities[row, predicted[row]]),
        )
        for row, image in zip(rows, images, strict=True)
    ]
