"""Names on the page: whole, and broken where their words end."""

import re

from markupsafe import Markup, escape

_LONG = 16  # letters without a blank; less is never broken
_BETWEEN_WORDS = r"_\-/.,:;"
_WORD_ENDS = re.compile(rf"(?<=[{_BETWEEN_WORDS}])(?=[^\s{_BETWEEN_WORDS}])")
# A phone has room for 24 letters. Scripts from U+2E80 on, such as Chinese, break anywhere.
_TOO_LONG_A_WORD = re.compile(rf"[^\s{_BETWEEN_WORDS}\u2e80-\uffff]{{25,}}")


def breakable(text: str) -> Markup:
    """Let a browser break the long names in a text where their words end, if it must."""
    return Markup("").join(
        Markup("<wbr>").join(_WORD_ENDS.split(part)) if len(part) > _LONG else escape(part)
        for part in re.split(r"(\s+)", text)
    )


def class_name(name: str) -> Markup:
    """Write a class name: as `breakable`, and a word that is too long is shortened in its middle.

    A tooltip then says all of it.
    """
    short = _TOO_LONG_A_WORD.sub(lambda word: f"{word[0][:12]}…{word[0][-11:]}", name)
    shown = breakable(short)
    return shown if short == name else Markup('<span title="{}">{}</span>').format(name, shown)
