"""Names and paths of users in pictures: short enough for their place."""

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cache
from itertools import takewhile

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from pipeline.evaluation.plots._fonts import families, missing_letters

_GAP = "…"
_BETWEEN_WORDS = " _-/.,\N{EN DASH}\N{EM DASH}"
_WORDS = re.compile(r"[^\s_\-/.,…]*[\s_\-/.,…]+|[^\s_\-/.,…]+")  # each with what ends it


@cache
def width_of(text: str, size: float) -> float:
    """Return how wide a line of text is, in points.

    Args:
        text: as it is drawn, never read as a formula.
        size: of the font, in points.
    """
    properties = FontProperties(family=families(text), size=size)
    with missing_letters("ignore"):
        width, _, _ = text_to_path.get_text_width_height_descent(text, properties, ismath=False)
    return float(width)


def named(name: str, width: float, size: float, around: str = "") -> str:
    """Shorten a class name in its middle: names often differ at their ends.

    Whole words are left out, unless that would leave out much more than letters would.

    Args:
        name: of a class.
        width: that it may take with what stands around it, in points.
        size: of the font, in points.
        around: what else stands on the line.
    """

    def cut(kept: int) -> str:
        return name[: kept - kept // 2] + _GAP + name[len(name) - kept // 2 :]

    room = width - width_of(around, size)
    by_letters = _fitting(name, cut, room, size)
    by_words = _without_middle_words(name, room, size)
    return by_words if by_letters != name and 2 * len(by_words) > len(by_letters) else by_letters


def all_named(names: Sequence[str], width: float, size: float) -> list[str]:
    """Shorten the class names that do not fit; what all begin with is left out before the rest.

    Args:
        names: of the classes that stand together.
        width: that each may take, in points.
        size: of the font, in points.
    """
    words = zip(*(_WORDS.findall(name) for name in names), strict=False)
    shared = sum(len(word[0]) for word in takewhile(lambda word: len(set(word)) == 1, words))
    room = width - width_of(_GAP, size)
    return [
        _GAP + named(name[shared:], room, size)
        if 0 < shared < len(name) and width_of(name, size) > width
        else named(name, width, size)
        for name in names
    ]


def wrapped(
    name: str, width: float, size: float, *, before: str = "", after: str = "", most: int = 2
) -> list[str]:
    """Write a class name in lines that end where words do; shortened where it needs too many.

    Args:
        name: of a class.
        width: of a line, in points.
        size: of the font, in points.
        before: what stands before the name, on the first line.
        after: what stands behind it, on the last.
        most: lines there may be.
    """
    for text in (name, named(name, 0.8 * most * width, size, around=before + after)):
        lines = _fill(_WORDS.findall(text), width, size, before, after)
        if len(lines) <= most and all(width_of(line, size) <= width for line in lines):
            return lines
    return [before + named(name, width, size, around=before + after) + after]


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


def _without_middle_words(name: str, width: float, size: float) -> str:
    """Return as many words of either end as fit; an empty text where one of each is too much."""
    words = _WORDS.findall(name)
    head, tail, chosen = 1, 1, ""
    while head + tail < len(words):
        first, last = "".join(words[:head]), "".join(words[-tail:])
        text = first.rstrip(_BETWEEN_WORDS) + _GAP + last
        if width_of(text, size) > width:
            break
        chosen = text
        if len(first) < len(last):
            head += 1
        else:
            tail += 1
    return chosen


def _fill(words: Sequence[str], width: float, size: float, before: str, after: str) -> list[str]:
    """Put words into lines, as many as fit into each."""
    lines = [before]
    for place, word in enumerate(words):
        end = after if place == len(words) - 1 else ""
        if lines[-1] != before and width_of(lines[-1] + word.rstrip() + end, size) > width:
            lines.append("")
        lines[-1] += word
    lines[-1] += after
    return [line.rstrip() for line in lines]
