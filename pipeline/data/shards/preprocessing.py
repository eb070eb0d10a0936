"""How image files become arrays: what shards and models both carry."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Preprocessing:
    """How an image file becomes an array. It travels with the shards and with the model.

    Attributes:
        height, width: of the array, px.
        channels: 1 grey, 3 RGB.
        resize: 'stretch', 'crop' (fill and cut the middle) or 'pad' (fit and fill up).
        background: grey level 0-255 beneath transparency and around padding.
        bit_depth: 8 or 16.
    """

    height: int
    width: int
    channels: Literal[1, 3]
    resize: Literal["stretch", "crop", "pad"]
    background: int
    bit_depth: Literal[8, 16]
