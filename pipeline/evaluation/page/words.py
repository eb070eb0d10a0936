"""How the page writes what the reports hold."""

import re

from markupsafe import Markup, escape

from pipeline.evaluation.judging.words import interval_text, number
from pipeline.evaluation.reports.schema import Figure

_LONG = 16  # letters without a blank; less is never broken
_BETWEEN_WORDS = r"_\-/.,:;"
_WORD_ENDS = re.compile(rf"(?<=[{_BETWEEN_WORDS}])(?=[^\s{_BETWEEN_WORDS}])")
# A phone has room for 24 letters. Scripts from U+2E80 on, such as Chinese, break anywhere.
_TOO_LONG_A_WORD = re.compile(rf"[^\s{_BETWEEN_WORDS}\u2e80-\uffff]{{25,}}")


def figure_text(figure: Figure, sign: bool = False) -> tuple[str, str]:
    """Return value and interval of a figure as '0.974' and '[0.923, 0.996]'."""
    value = "n/a" if figure.value is None else number(figure.value, sign)
    return value, interval_text(figure.ci95, sign)


def p_value(value: float) -> str:
    """Write a p-value as 'p = 0.042'."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def per_cent(value: float) -> str:
    """Write a share as '4.2 %', without letting an almost look like an all."""
    text = f"{100 * value:.1f}"
    text = "99.9" if text == "100.0" and value < 1 else text
    return f"{text}\N{NO-BREAK SPACE}%"


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
