"""New images that are unlike the reference."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from pipeline.evaluation.plots._cells import Cell, draw_message, draw_sheet, name_lines, path_line
from pipeline.evaluation.plots.levels import Image

_COLUMNS = 8


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
    cells = []
    for one in strangest:
        lines = name_lines(one.given, _COLUMNS)
        if one.predicted != one.given:
            lines += name_lines(one.predicted, _COLUMNS, before="→ ")
        beneath = (f"{one.strangeness:+.2f}", path_line(one.path, _COLUMNS))
        cells.append(Cell(one.image, lines, beneath))
    heading = (
        f"{len(strangest)} of {total} new images, the least like the reference first: label → said"
    )
    return draw_sheet(cells, _COLUMNS, heading)
