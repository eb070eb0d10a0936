"""From the bytes of one image file to the array that a network sees."""

import math
from pathlib import Path

import cv2
import numpy as np

from pipeline.data.images.decode import Pixels, UnusableImageError, decode, read_content
from pipeline.data.images.strict import verify
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.files import as_text

# Of a new image: 100 million, some 300 MB once decoded.
MAX_PIXELS = 100_000_000


def preprocess(content: bytes, preprocessing: Preprocessing) -> Pixels:
    """Decode, orient and resize one image.

    Args:
        content: of an image file; `verify` it first unless it is known to be whole.
        preprocessing: how.

    Returns:
        height x width x channels, uint8 or uint16.

    Raises:
        UnusableImageError: cannot be decoded; the message does not name the file.
    """
    try:
        pixels = decode(
            content,
            preprocessing.background,
            grey=preprocessing.channels == 1,
            needed=(preprocessing.height, preprocessing.width),
        )
        return fit_pixels(pixels, preprocessing)
    except cv2.error as error:
        raise UnusableImageError(f"damaged: {error}") from error


def fit_pixels(pixels: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Bring decoded pixels (height x width x 1 or 3, uint8 or uint16) to the array's shape."""
    pixels = _with_channels(pixels, preprocessing.channels)
    pixels = _with_depth(pixels, preprocessing.bit_depth)
    pixels = _FIT[preprocessing.resize](pixels, preprocessing)
    # OpenCV drops the axis of a single channel.
    return pixels.reshape(preprocessing.height, preprocessing.width, preprocessing.channels)


def preprocess_file(
    path: Path, preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS
) -> Pixels:
    """Verify and prepare one image file that was never indexed.

    Returns:
        height x width x channels, uint8 or uint16.

    Raises:
        UnusableImageError: unreadable, not an image, truncated or too large; names the file.
    """
    try:
        content = read_content(path, max_pixels)
        verify(content, max_pixels)
        return preprocess(content, preprocessing)
    except UnusableImageError as error:
        raise UnusableImageError(f"{as_text(path)}: {error}") from error


def _with_channels(pixels: Pixels, channels: int) -> Pixels:
    """Go from grey to RGB by repetition, from RGB to grey by the luma of ITU-R BT.601."""
    if pixels.shape[-1] == channels:
        return pixels
    converted: Pixels = cv2.cvtColor(
        pixels, cv2.COLOR_RGB2GRAY if channels == 1 else cv2.COLOR_GRAY2RGB
    )
    return converted


def _with_depth(pixels: Pixels, bit_depth: int) -> Pixels:
    """Go between 0-255 and 0-65535 such that white stays white: 65535 is 257 times 255."""
    if bit_depth == 16 and pixels.dtype == np.uint8:
        return pixels.astype(np.uint16) * np.uint16(257)
    if bit_depth == 8 and pixels.dtype == np.uint16:
        return np.rint(pixels / np.float32(257)).astype(np.uint8)
    return pixels


def _resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """Average where a side shrinks, interpolate where it grows."""
    shrunk = min(pixels.shape[1], width), min(pixels.shape[0], height)
    if shrunk != pixels.shape[1::-1]:
        pixels = _average(pixels, *shrunk)
    if shrunk != (width, height):
        # The exact variant gives the same bits on every machine.
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    return pixels


def _average(pixels: Pixels, width: int, height: int) -> Pixels:
    whole_factor = pixels.shape[0] % height == 0 and pixels.shape[1] % width == 0
    if pixels.dtype == np.uint8 and pixels.shape[-1] == 3 and not whole_factor:
        # OpenCV averages floats a quarter faster than bytes here, to the same values.
        return np.rint(_average(pixels.astype(np.float32), width, height)).astype(np.uint8)
    averaged: Pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return averaged


def _stretch(pixels: Pixels, to: Preprocessing) -> Pixels:
    return _resize(pixels, to.height, to.width)


def _crop(pixels: Pixels, to: Preprocessing) -> Pixels:
    scale = max(to.height / pixels.shape[0], to.width / pixels.shape[1])
    # Of a line of a million pixels most is cut off in the end: do not enlarge that first.
    pixels = _middle(pixels, math.ceil(4 * to.height / scale), math.ceil(4 * to.width / scale))
    height, width = pixels.shape[:2]
    height, width = max(round(height * scale), to.height), max(round(width * scale), to.width)
    return _middle(_resize(pixels, height, width), to.height, to.width)


def _middle(pixels: Pixels, height: int, width: int) -> Pixels:
    """Cut out the middle, where a side is longer."""
    top, left = max(pixels.shape[0] - height, 0) // 2, max(pixels.shape[1] - width, 0) // 2
    return pixels[top : top + height, left : left + width]


def _pad(pixels: Pixels, to: Preprocessing) -> Pixels:
    height, width = pixels.shape[:2]
    scale = min(to.height / height, to.width / width)
    height, width = max(round(height * scale), 1), max(round(width * scale), 1)
    top, left = (to.height - height) // 2, (to.width - width) // 2
    background = to.background * (np.iinfo(pixels.dtype).max // 255)
    canvas = np.full((to.height, to.width, to.channels), background, pixels.dtype)
    fitted = _resize(pixels, height, width).reshape(height, width, to.channels)
    canvas[top : top + height, left : left + width] = fitted
    return canvas


_FIT = {"stretch": _stretch, "crop": _crop, "pad": _pad}
