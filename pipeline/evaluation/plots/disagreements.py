"""A sheet of images that one of two models has right, and the other wrong."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from pipeline.evaluation.judging.findings import Disagreement
from pipeline.evaluation.plots._cells import Cell, draw_message, draw_sheet, name_lines, path_line
from pipeline.evaluation.plots._style import GREEN, ORANGE
from pipeline.evaluation.plots.levels import Image

_COLUMNS = 6


def draw_disagreements(
    shown: Sequence[Disagreement],
    images: Sequence[Image],
    total: int,
    sides: tuple[str, str],
) -> Figure:
    """Draw each image with what both models say, framed by whether the second mended or broke it.

    Args:
        shown: those to show.
        images: of these, height x width x channels, uint8 or uint16.
        total: how many there are.
        sides: short names of the first and the second model.
    """
    if not shown:
        return draw_message("No image is right for one model only.")
    cells = [_cell(one, image, sides) for one, image in zip(shown, images, strict=True)]
    heading = f"{len(shown)} of {total} images: the class, and the answer of the one that is wrong"
    return draw_sheet(cells, _COLUMNS, heading)


def _cell(one: Disagreement, image: Image, sides: tuple[str, str]) -> Cell:
    # The mark says it without colours.
    mark, colour = ("✓ ", GREEN) if one.mended else ("✗ ", ORANGE)
    if one.mended:
        who, said, sure = sides[0], one.first, one.first_probability
    else:
        who, said, sure = sides[1], one.second, one.second_probability
    before, after = f"{who}: ", f", {sure:.0%}"
    lines = (
        *name_lines(one.true, _COLUMNS, before=mark),
        *name_lines(said, _COLUMNS, before=before, after=after),
    )
    return Cell(image, lines, (path_line(one.path, _COLUMNS),), colour)
