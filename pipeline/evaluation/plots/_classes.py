"""The colour and the marker of each class, the same in all pictures."""

from typing import NamedTuple

# Petroff's sequence (2021, arXiv:2107.02270), matplotlib's `petroff10`: ten colours that readers
# with any common colour blindness distinguish. `.dvc/plots/by_class.json` repeats it.
PALETTE = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
_MARKERS = "osD^vPX*<>"


class Symbol(NamedTuple):
    """How a class is drawn: a colour, and a marker as matplotlib spells it."""

    colour: str
    marker: str


def symbol(number: int) -> Symbol:
    """Return the symbol of a class.

    Among the first ten classes neither a colour nor a marker occurs twice, among a hundred no
    pair of the two does.

    Args:
        number: of the class, from 0; the number of classes does not matter.
    """
    turn, place = divmod(number, len(PALETTE))
    return Symbol(PALETTE[place], _MARKERS[(place + turn) % len(_MARKERS)])


def lighter(colour: str) -> str:
    """Return a colour of `PALETTE` mixed with twice as much white."""
    parts = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{(part + 2 * 255) // 3:02x}" for part in parts)
