"""Sheets of the latent space: pairs that lie near each other, outliers, and what was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from pipeline.evaluation.plots._cells import (
    Cell,
    draw_cells,
    draw_message,
    draw_sheet,
    in_rows,
    name_lines,
    path_line,
)
from pipeline.evaluation.plots._style import BLUE, ORANGE
from pipeline.evaluation.plots.levels import Image

_PAIR_COLUMNS = 8  # three pairs, with an empty place between two of them
PAIRS_IN_A_ROW = 3
_COLUMNS = 6
NEAREST_IN_A_ROW = _COLUMNS - 1  # behind a given image


@dataclass(frozen=True)
class Shown:
    """An image of a sheet.

    Attributes:
        image: height x width x channels, uint8 or uint16.
        label: name of its class; empty where it is not known.
        path: of its file.
        note: what else is said of it.
        marked: whether it gets a frame.
    """

    image: Image
    label: str
    path: str
    note: str = ""
    marked: bool = False


def draw_pairs(
    heading: str, rows: Sequence[tuple[str, Sequence[tuple[Shown, Shown]]]], nothing: str
) -> Figure:
    """Draw pairs of images, three in a row, each row below its title.

    Args:
        heading: over all of it.
        rows: titles and pairs; rows without pairs are left out.
        nothing: what is said in place of a sheet without any pair.
    """
    lines: list[tuple[str, Sequence[Cell | None]]] = []
    for title, pairs in rows:
        for start in range(0, len(pairs), PAIRS_IN_A_ROW):
            cells: list[Cell | None] = []
            for pair in pairs[start : start + PAIRS_IN_A_ROW]:
                cells += [*([None] if cells else []), *(_cell(one, _PAIR_COLUMNS) for one in pair)]
            lines.append(("" if start else title, cells))
    if not lines:
        return draw_message(nothing)
    titles = [title for title, _ in lines] if any(title for title, _ in lines) else []
    return draw_cells([cells for _, cells in lines], _PAIR_COLUMNS, heading, titles)


def draw_outliers(shown: Sequence[Shown], heading: str) -> Figure:
    """Draw images that are far from their class, the furthest first."""
    if not shown:
        return draw_message("No class has enough images to tell which are far from it.")
    cells = [_cell(one, _COLUMNS) for one in shown]
    return draw_sheet(cells, _COLUMNS, heading)


def draw_similar(answers: Sequence[tuple[Shown, Sequence[Shown]]], heading: str) -> Figure:
    """Draw each given image, framed, before the images nearest to it, nearest first."""
    rows: list[Sequence[Cell | None]] = []
    for query, found in answers:
        first: Cell | None = _cell(query, _COLUMNS, BLUE)
        for part in in_rows([_cell(one, _COLUMNS) for one in found], NEAREST_IN_A_ROW):
            rows.append([first, *part])
            first = None
    return draw_cells(rows, _COLUMNS, heading)


def _cell(one: Shown, columns: int, frame: str | None = None) -> Cell:
    above = name_lines(one.label, columns) if one.label else ()
    beneath = [*([one.note] if one.note else []), path_line(one.path, columns)]
    return Cell(one.image, above, beneath, frame or (ORANGE if one.marked else None))
