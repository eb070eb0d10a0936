"""Fonts for names in any script."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Literal

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

_UPRIGHT = ("normal", 400, "regular", "book", "medium")
_BOXES = "Last Resort"  # matplotlib's own: a box for every letter that there is


@cache
def families(text: str) -> Sequence[str]:
    """Return the default family, and installed ones that have the letters which it lacks."""
    found = list(mpl.rcParams["font.family"])
    missing = set(map(ord, text)) - _letters(findfont(FontProperties()))
    for font in sorted(fontManager.ttflist, key=lambda font: (font.name, font.fname)):
        if not missing:
            break
        plain = font.style == "normal" and font.weight in _UPRIGHT
        if plain and not font.name.startswith(_BOXES) and missing & _letters(font.fname):
            found.append(font.name)
            missing -= _letters(font.fname)
    return found


@contextmanager
def missing_letters(action: Literal["error", "ignore"]) -> Iterator[None]:
    """Turn matplotlib's warnings of letters that no font has into errors, or silence them."""
    with warnings.catch_warnings():
        warnings.filterwarnings(action, "Glyph .* missing from")
        yield


@cache
def _letters(path: str) -> frozenset[int]:
    return frozenset(get_font(path).get_charmap())
