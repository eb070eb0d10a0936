"""Where the pixels of an image are in the array that `preprocess` makes of it, and back."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.data.shards.preprocessing import Preprocessing

# n x 4: left edge, upper edge, width, height, in px.
Boxes = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Fit:
    """Along each axis, a place p px from the image's edge is at scale * p + shift in the array.

    Attributes:
        scale: of x and y.
        shift: of x and y, px of the array.
        size: width and height of the image, px.
        target: those of the array.
    """

    scale: tuple[float, float]
    shift: tuple[float, float]
    size: tuple[int, int]
    target: tuple[int, int]

    def to_array(self, boxes: Boxes) -> Boxes:
        """Map boxes of the image into the array, n x 4; what is cut off has width or height 0."""
        return _clipped(_corners(boxes) * (self.scale * 2) + self.shift * 2, self.target)

    def to_image(self, boxes: Boxes) -> Boxes:
        """Map boxes of the array into the image, n x 4; padding is cut off."""
        return _clipped((_corners(boxes) - self.shift * 2) / (self.scale * 2), self.size)


def fit_of(height: int, width: int, to: Preprocessing) -> Fit:
    """Return where `preprocess` puts the pixels of an upright image of height x width px.

    Its steps are those of `preprocess`, whole pixels included.
    """
    scale, shift = _FIT[to.resize]((width, height), (to.width, to.height))
    return Fit(scale, shift, (width, height), (to.width, to.height))


_Pair = tuple[float, float]
_Size = tuple[int, int]  # width and height


def _stretch(size: _Size, to: _Size) -> tuple[_Pair, _Pair]:
    return (to[0] / size[0], to[1] / size[1]), (0.0, 0.0)


def _crop(size: _Size, to: _Size) -> tuple[_Pair, _Pair]:
    factor = max(to[0] / size[0], to[1] / size[1])
    scale, shift = zip(
        *(_crop_axis(*axis, factor) for axis in zip(size, to, strict=True)), strict=True
    )
    return scale, shift


def _crop_axis(size: int, to: int, factor: float) -> _Pair:
    kept = min(size, math.ceil(4 * to / factor))
    start = (size - kept) // 2
    resized = max(round(kept * factor), to)
    scale = resized / kept
    return scale, -start * scale - (resized - to) // 2


def _pad(size: _Size, to: _Size) -> tuple[_Pair, _Pair]:
    factor = min(to[0] / size[0], to[1] / size[1])
    fitted = [max(round(side * factor), 1) for side in size]
    scale = fitted[0] / size[0], fitted[1] / size[1]
    return scale, ((to[0] - fitted[0]) // 2, (to[1] - fitted[1]) // 2)


def _corners(boxes: Boxes) -> Boxes:
    """Turn left, top, width, height into left, top, right, bottom."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _clipped(corners: Boxes, size: _Size) -> Boxes:
    """Cut corners off at the edges, and turn them into left, top, width, height."""
    inside = np.clip(corners, 0.0, size * 2)
    return np.concatenate([inside[:, :2], inside[:, 2:] - inside[:, :2]], axis=1)


_FIT = {"stretch": _stretch, "crop": _crop, "pad": _pad}
