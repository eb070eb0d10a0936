"""Images in rows, with lines of text above and beneath each: what all sheets are made of."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.evaluation.plots._style import DPI, PAGE_WIDTH, show_image
from pipeline.evaluation.plots._text import ending, width_of, wrapped
from pipeline.evaluation.plots.levels import Image

TITLE_SIZE, NOTE_SIZE = 8.0, 7.0  # of the fonts above and beneath images, in points

_HEADING_SIZE, _NAME_SIZE = 10.0, 9.0  # likewise
_LINE = 1.3  # height of a line of text, as a multiple of its font's size
_GAP = 0.12  # between cells, inches
_HEADING = 0.3  # inches
_POINTS = 72.0  # per inch


@dataclass(frozen=True)
class Cell:
    """An image of a sheet.

    Attributes:
        image: height x width x channels, uint8 or uint16.
        above: lines over it.
        beneath: lines under it, smaller and quieter.
        frame: colour of the frame, or None.
    """

    image: Image
    above: Sequence[str] = ()
    beneath: Sequence[str] = ()
    frame: str | None = None


def name_lines(
    name: str, columns: int, *, before: str = "", after: str = "", size: float = TITLE_SIZE
) -> list[str]:
    """Write a class name for a cell of a sheet of so many columns, see `wrapped`."""
    return wrapped(name, _POINTS * _side(columns), size, before=before, after=after)


def path_line(path: str, columns: int) -> str:
    """Write a path beneath a cell of a sheet of so many columns, see `ending`."""
    return ending(path, _POINTS * _side(columns), NOTE_SIZE)


def in_rows(cells: Sequence[Cell], columns: int) -> list[Sequence[Cell]]:
    """Cut a sequence of cells into rows."""
    return [cells[start : start + columns] for start in range(0, len(cells), columns)]


def draw_sheet(cells: Sequence[Cell], columns: int, heading: str) -> Figure:
    """Draw cells one after the other, row by row."""
    return draw_cells(in_rows(cells, columns), columns, heading)


def draw_cells(
    rows: Sequence[Sequence[Cell | None]],
    columns: int,
    heading: str = "",
    names: Sequence[str] = (),
) -> Figure:
    """Draw a sheet as wide as a page.

    Args:
        rows: of cells, at most `columns` each; None leaves a place empty.
        columns: how many cells the width is shared out to.
        heading: over all of it.
        names: a title over each row; as many as rows, or none.
    """
    side = _side(columns)
    over = [_lines(row, "above") * TITLE_SIZE * _LINE / _POINTS + 0.05 for row in rows]
    under = [_lines(row, "beneath") * NOTE_SIZE * _LINE / _POINTS + 0.05 for row in rows]
    images = [side * _tallness(row) for row in rows]
    title = _HEADING if names else 0.0
    heights = [title + sum(parts) + _GAP for parts in zip(over, images, under, strict=True)]
    # Headings may be wider than the cells.
    texts = ((heading, _HEADING_SIZE), *((name, _NAME_SIZE) for name in names))
    widest = max(width_of(*text) / _POINTS + _GAP for text in texts)
    width = _GAP + max(max(map(len, rows)) * (side + _GAP), widest)
    height = sum(heights) + _GAP + (_HEADING if heading else 0.0)
    figure = Figure(figsize=(width, height), dpi=DPI)

    def write(text: str, top: float, size: float) -> None:
        place = _GAP / width, top / height
        figure.text(*place, text, fontsize=size, va="top", parse_math=False)

    top = height - _GAP
    if heading:
        write(heading, top, _HEADING_SIZE)
        top -= _HEADING
    for place, row in enumerate(rows):
        if names:
            write(names[place], top, _NAME_SIZE)
        down = top - title - over[place] - images[place]
        for column, cell in enumerate(row):
            if cell is not None:
                left = _GAP + column * (side + _GAP)
                box = (left / width, down / height, side / width, images[place] / height)
                _draw(figure.add_axes(box), cell)
        top -= heights[place]
    return figure


def _tallness(row: Sequence[Cell | None]) -> float:
    """Return the height of a row's images as a share of their places' side, at most 1."""
    shapes = [cell.image.shape for cell in row if cell is not None]
    tallest: float = max(shape[0] / shape[1] for shape in shapes)
    return min(1.0, tallest)


def _side(columns: int) -> float:
    """Return the side of a cell's image, inches."""
    return (PAGE_WIDTH - _GAP) / columns - _GAP


def _lines(row: Sequence[Cell | None], where: str) -> int:
    return max((len(getattr(cell, where)) for cell in row if cell is not None), default=0)


def _draw(axes: Axes, cell: Cell) -> None:
    show_image(axes, cell.image)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(cell.frame is not None)
    if cell.frame:
        axes.spines[:].set(color=cell.frame, linewidth=2.5)
    if cell.above:
        lines = "\n".join(cell.above)
        axes.set_title(lines, fontsize=TITLE_SIZE, linespacing=1.2, pad=4, parse_math=False)
    if cell.beneath:
        lines = "\n".join(cell.beneath)
        axes.set_xlabel(
            lines, fontsize=NOTE_SIZE, color="#555555", linespacing=1.2, parse_math=False
        )


def draw_message(text: str) -> Figure:
    """Draw a sentence in place of a sheet that would be empty."""
    figure = Figure(figsize=(5.0, 0.8), dpi=DPI)
    figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure
