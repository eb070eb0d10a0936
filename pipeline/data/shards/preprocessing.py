"""How image files become arrays: what shards and models both carry."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

_LONGEST_SIDE = 2**15 - 1  # px: OpenCV's limit for most of what it does


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Preprocessing:
    """How an image file becomes an array. It travels with the shards and with the model.

    Attributes:
        height, width: of the array, px.
        channels: 1 grey, 3 RGB.
        resize: 'stretch', 'crop' (fill and cut the middle) or 'pad' (fit and fill up).
        background: grey level 0-255 beneath transparency and around padding.
        bit_depth: 8 or 16.
    """

    height: Annotated[int, Field(ge=1, le=_LONGEST_SIDE)]
    width: Annotated[int, Field(ge=1, le=_LONGEST_SIDE)]
    channels: Literal[1, 3]
    resize: Literal["stretch", "crop", "pad"]
    background: Annotated[int, Field(ge=0, le=255)]
    bit_depth: Literal[8, 16]
