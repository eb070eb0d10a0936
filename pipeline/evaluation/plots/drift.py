"""New images that are unlike the reference."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from pipeline.evaluation.plots._cells import (
    NOTE_SIZE,
    TITLE_SIZE,
    Cell,
    draw_cells,
    draw_message,
    in_rows,
    text_width,
)
from pipeline.evaluation.plots._text import ending, wrapped
from pipeline.evaluation.plots.sheets import Image

_COLUMNS = 8
# Tests that agree lie upon each other: each is smaller than the one before.


@dataclass(frozen=True)
class StrangeImage:
    """A new image.

    Attributes:
        image: height x width x channels, uint8 or uint16.
        path: of its file.
        given: the class that its label names.
        predicted: the class that the model answers.
        strangeness: see `ClassifierTest`.
    """

    image: Image
    path: str
    given: str
    predicted: str
    strangeness: float


def draw_strangest(strangest: Sequence[StrangeImage], total: int) -> Figure:
    """Draw new images that are unlike the reference.

    Args:
        strangest: those to show, the strangest first.
        total: how many new images there are.
    """
    if not strangest:
        return draw_message("No new images.")
    width = text_width(_COLUMNS)
    cells = []
    for one in strangest:
        lines = [*wrapped(one.given, width, TITLE_SIZE)]
        if one.predicted != one.given:
            lines += wrapped(one.predicted, width, TITLE_SIZE, before="→ ")
        beneath = (f"{one.strangeness:+.2f}", ending(one.path, width, NOTE_SIZE))
        cells.append(Cell(one.image, lines, beneath))
    heading = (
        f"{len(strangest)} of {total} new images, the least like the reference first: label → said"
    )
    return draw_cells(in_rows(cells, _COLUMNS), _COLUMNS, heading)
