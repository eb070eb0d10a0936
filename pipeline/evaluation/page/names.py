"""Names on the page: whole, and broken where their words end."""

import re

_LONG = 16  # letters without a blank; less is never broken
_BETWEEN_WORDS = r"_\-/.,:;"
_WORD_ENDS = re.compile(rf"(?<=[{_BETWEEN_WORDS}])(?=[^\s{_BETWEEN_WORDS}])")
# A phone has room for 24 letters. Scripts from U+2E80 on, such as Chinese, break anywhere.
_TOO_LONG_A_WORD = re.compile(rf"[^\s{_BETWEEN_WORDS}\u2e80-\uffff]{{25,}}")


def pieces(text: str) -> list[str]:
    """Cut a text where a browser may break it beside blanks: where the words of long names end."""
    found = [""]
    for part in re.split(r"(\s+)", text):
        first, *others = _WORD_ENDS.split(part) if len(part) > _LONG else [part]
        found[-1] += first
        found += others
    return found


def shortened(name: str) -> str:
    """Shorten the words of a class name that are too long for a phone, in their middle."""
    return _TOO_LONG_A_WORD.sub(lambda word: f"{word[0][:12]}…{word[0][-11:]}", name)
