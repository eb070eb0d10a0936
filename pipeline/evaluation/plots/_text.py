"""Names and paths of users in pictures: short enough for their place."""

from bisect import bisect_right
from collections.abc import Callable
from functools import cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

_GAP = "…"


@cache
def width_of(text: str, size: float) -> float:
    """Return how wide a line of text is, in points.

    Args:
        text: as it is drawn, never read as a formula.
        size: of the font, in points.
    """
    properties = FontProperties(size=size)
    width, _, _ = text_to_path.get_text_width_height_descent(text, properties, ismath=False)
    return float(width)


def named(name: str, width: float, size: float, around: str = "") -> str:
    """Shorten a class name in its middle: names often differ at their ends.

    Args:
        name: of a class.
        width: that it may take with what stands around it, in points.
        size: of the font, in points.
        around: what else stands on the line.
    """

    def cut(kept: int) -> str:
        return name[: kept - kept // 2] + _GAP + name[len(name) - kept // 2 :]

    return _fitting(name, cut, width - width_of(around, size), size)


def ending(path: str, width: float, size: float) -> str:
    """Shorten a path at its start: files differ at its end.

    Args:
        path: of a file.
        width: that it may take, in points.
        size: of the font, in points.
    """
    return _fitting(path, lambda kept: _GAP + path[len(path) - kept :], width, size)


def _fitting(text: str, cut: Callable[[int], str], width: float, size: float) -> str:
    """Return all of the text if it fits, else the longest cut that does; two characters stay."""
    if width_of(text, size) <= width:
        return text
    lengths = range(3, len(text))
    fit = bisect_right(lengths, width, key=lambda kept: width_of(cut(kept), size))
    return cut(2 + fit) if len(text) > 2 else text
