"""Whether two files show the same pixels: candidates of the perceptual hash are compared here.

The hash sees 16 x 16 frequencies. Two handwritten strokes, drawings of one template or X-rays of
two chests may agree in them. At the pictures' own resolution they do not.
"""

from collections import OrderedDict

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.data.images.decode import UnusableImageError, decode
from pipeline.data.indexing.verify import GROUND, Limits, eight_bits
from pipeline.data.sources.source import ImageSource

_SIDE = 512  # px; larger pictures are compared at this size
# The means over 4 x 4 px may differ by so many grey levels: what a JPEG of quality 60 or another
# size leaves of a difference. Between any two of 3,000 upright strokes they differ by 15 and more,
# between two drawings of one template by 70. A faint picture has smaller differences in all.
_WINDOW = (4, 4)
_TOLERANCE = 12.0
_TOLERANCE_OF_RANGE = 0.075  # of the darkest to the lightest pixel
_REMEMBERED_BYTES = 128 * 2**20

Grey = npt.NDArray[np.uint8]


def same_picture(first: Grey, second: Grey) -> bool:
    """Compare two grey pictures, height x width, at the smaller size of the two."""
    height, width = np.minimum(first.shape, second.shape).tolist()
    a, b = (_resized(picture, width, height) for picture in (first, second))
    tolerance = min(_TOLERANCE, _TOLERANCE_OF_RANGE * min(np.ptp(a), np.ptp(b)))
    difference = cv2.blur(a.astype(np.float32) - b.astype(np.float32), _WINDOW)
    return bool(np.abs(difference).max() <= tolerance)


class Pictures:
    """Pictures of a source in grey, at most `_SIDE` wide and high; the latest are remembered."""

    def __init__(self, source: ImageSource, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._remembered: OrderedDict[str, Grey | None] = OrderedDict()
        self._bytes = 0

    def same(self, first: str, second: str) -> bool | None:
        """Whether two paths show one picture; None if one of them cannot be read any more."""
        a, b = self._load(first), self._load(second)
        return None if a is None or b is None else same_picture(a, b)

    def _load(self, path: str) -> Grey | None:
        if path in self._remembered:
            self._remembered.move_to_end(path)
            return self._remembered[path]
        grey = self._remembered[path] = self._read(path)
        self._bytes += 0 if grey is None else grey.nbytes
        while self._bytes > _REMEMBERED_BYTES:
            _, oldest = self._remembered.popitem(last=False)
            self._bytes -= 0 if oldest is None else oldest.nbytes
        return grey

    def _read(self, path: str) -> Grey | None:
        try:
            content = self._source.read(path, self._limits.max_pixels)
            pixels = decode(content, GROUND, grey=True, needed=(_SIDE // 2, _SIDE // 2))
        except UnusableImageError:
            return None
        grey = np.asarray(eight_bits(pixels).convert("L"))
        return _resized(grey, min(grey.shape[1], _SIDE), min(grey.shape[0], _SIDE))


def _resized(picture: Grey, width: int, height: int) -> Grey:
    if picture.shape == (height, width):
        return picture
    # Sharper than the triangle, which blurs lines beyond the tolerance.
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
