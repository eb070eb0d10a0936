"""Images with their class-activation maps and boxes over them."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from pipeline.evaluation.plots._cells import Cell, draw_message, draw_sheet, name_lines, path_line
from pipeline.evaluation.plots.levels import Image, eight_bits
from pipeline.evaluation.plots.sheets import Mistake

Map = npt.NDArray[np.float32]
# Left edge, upper edge, width, height, in px of the image.
Box = Sequence[float]

_COLUMNS = 6
_LEAST_PX = 240  # sides of small images are enlarged by whole factors, so that lines are thin
_MOST_PX = 1200
_MOST_HEAT = 0.7  # of a map's colour over its image
_FOUND, _GIVEN = (0, 229, 255), (255, 255, 255)  # colours of boxes, on dark rims


@dataclass(frozen=True)
class LocatedImage:
    """An image, its map and its boxes.

    Attributes:
        image: height x width x channels, uint8 or uint16.
        heights: height x width, at least 0.
        said: the class that the map is of, and how probable it is, or what else is to be said.
        note: beneath the image: its path.
        found: box from the map, None for none.
        given: box of the manifest, None for none.
    """

    image: Image
    heights: Map
    said: str
    note: str
    found: Box | None = None
    given: Box | None = None


@dataclass(frozen=True)
class LocatedMistake:
    """A wrong answer, with the maps of the class that was said and of the true one.

    Attributes:
        mistake: the wrong answer.
        of_predicted, of_true: the maps of both classes, height x width of the image, at least 0.
    """

    mistake: Mistake
    of_predicted: Map
    of_true: Map


def draw_located(images: Sequence[LocatedImage], heading: str, columns: int = _COLUMNS) -> Figure:
    """Draw images beneath their maps, with their boxes.

    Args:
        images: those to show.
        heading: over all of them.
        columns: of the sheet, at most.
    """
    if not images:
        return draw_message("No image was located.")
    columns = max(min(columns, len(images)), 2)
    cells = [
        Cell(
            overlaid(one.image, one.heights, one.found, one.given),
            name_lines(one.said, columns),
            (path_line(one.note, columns),),
        )
        for one in images
    ]
    return draw_sheet(cells, columns, heading)


def draw_located_mistakes(mistakes: Sequence[LocatedMistake], total: int) -> Figure:
    """Draw wrong answers, the most confident first: the image, and its two maps.

    Args:
        mistakes: those to show.
        total: how many there are.
    """
    if not mistakes:
        return draw_message("No mistakes on the test set.")
    cells = []
    for shown in mistakes:
        one = shown.mistake
        said = name_lines(one.predicted, _COLUMNS, before="said ", after=f", {one.probability:.0%}")
        true = name_lines(one.true, _COLUMNS, before="true ")
        note = (path_line(one.path, _COLUMNS),)
        cells += [
            Cell(_enlarged(_as_colours(one.image)), ("image",), note),
            Cell(overlaid(one.image, shown.of_predicted), said),
            Cell(overlaid(one.image, shown.of_true), true),
        ]
    heading = (
        f"{len(mistakes)} of {total} mistakes, the most confident first: what speaks for the class"
        " said, and for the true one"
    )
    return draw_sheet(cells, _COLUMNS, heading)


def overlaid(
    image: Image, heights: Map, found: Box | None = None, given: Box | None = None
) -> Image:
    """Lay a map over an image, and draw boxes: found in cyan, given in white.

    The higher the map, relative to its maximum, the more of its colour is seen.

    Returns:
        height x width x 3, uint8; small images are enlarged, large ones reduced.
    """
    colours, heat = _enlarged(_as_colours(image)), _enlarged(heights[..., None])[..., 0]
    share = heat / max(float(heat.max()), 1e-12)
    warm = mpl.colormaps["inferno"](0.4 + 0.5 * share)[..., :3] * 255
    opacity = _MOST_HEAT * share[..., None]
    drawn = np.rint(colours * (1 - opacity) + warm * opacity).astype(np.uint8)
    scale = colours.shape[1] / image.shape[1]
    for box, colour in ((given, _GIVEN), (found, _FOUND)):
        if box is not None:
            _frame(drawn, [value * scale for value in box], colour)
    return drawn


def _as_colours(image: Image) -> Image:
    """Turn height x width x 1 or 3, 8 or 16 bits, into height x width x 3, uint8."""
    return np.broadcast_to(eight_bits(image), (*image.shape[:2], 3))


def _enlarged(image: Image) -> Image:
    """Repeat or leave out pixels, by a whole factor."""
    side = max(image.shape[:2])
    if side > _MOST_PX:
        step = -(-side // _MOST_PX)
        return image[::step, ::step]
    factor = max(_LEAST_PX // side, 1)
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def _frame(drawn: Image, box: Sequence[float], colour: tuple[int, int, int]) -> None:
    """Draw a box's line, and a dark one within it; thinner where they would hide what is inside."""
    height, width = drawn.shape[:2]
    line = max(round(min(max(height, width) / 120, min(box[2:]) / 12)), 1)
    left, top = round(box[0]), round(box[1])
    right, bottom = min(round(box[0] + box[2]), width), min(round(box[1] + box[3]), height)
    for thickness, shade in ((2 * line, (0, 0, 0)), (line, colour)):
        drawn[top : min(top + thickness, bottom), left:right] = shade
        drawn[max(bottom - thickness, top) : bottom, left:right] = shade
        drawn[top:bottom, left : min(left + thickness, right)] = shade
        drawn[top:bottom, max(right - thickness, left) : right] = shade
