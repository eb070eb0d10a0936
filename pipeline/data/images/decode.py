"""From the bytes of one image file to its pixels, whatever the format and mode."""

import os
import re
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import PipelineError

# By Pillow's names. Not all that Pillow knows: reading EPS, for one, starts a program.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

# No pixel takes more than 16-bit RGBA does uncompressed; beside the pixels there may be colour
# profiles, thumbnails and the like.
_BYTES_PER_PIXEL = 8
_BYTES_BESIDE_PIXELS = 16 * 2**20

# No side of an image that OpenCV reads is longer.
_MOST_PX = 2**20

JPEG_SIGNATURE = b"\xff\xd8\xff"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# The chunks of a PNG that its pixels depend on. About others libpng may write to the console.
_PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND"}

# A JPEG is decoded at a fraction of its size only while that is still this much too large:
# the averaging that follows then hides the coarser first step.
_REDUCING_GAP = 2

_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

# Largest first. Named for grey, these flags are the factor alone and go with any colour.
_REDUCED = (
    (8, cv2.IMREAD_REDUCED_GRAYSCALE_8),
    (4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
    (2, cv2.IMREAD_REDUCED_GRAYSCALE_2),
)

# Height x width x 1 or 3, uint8 or uint16.
Pixels = npt.NDArray[Any]


class UnusableImageError(PipelineError):
    """The content of one file cannot become an array; says why as 'kind: detail'."""


def read_content(path: str | Path, max_pixels: int | None = None) -> bytes:
    """Read a file that should be an image, of at most `max_pixels` where they are given.

    Raises:
        UnusableImageError: unreadable, not a regular file, or larger than any such image.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - as below
        if not stat.S_ISREG(status.st_mode):
            raise UnusableImageError("not a regular file")  # reading a pipe may never end
        check_bytes(status.st_size, max_pixels)
        # Without a buffer, which for a small file costs more than reading it.
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a Path takes the buffer too
            return file.read()
    except OSError as error:
        raise UnusableImageError(f"unreadable: {error.strerror}") from error


def check_bytes(size: int, max_pixels: int | None) -> None:
    """Refuse content that is larger than any image of at most `max_pixels`.

    Raises:
        UnusableImageError: it is.
    """
    if max_pixels is None:
        return
    limit = _BYTES_PER_PIXEL * max_pixels + _BYTES_BESIDE_PIXELS
    if size > limit:
        raise UnusableImageError(
            f"too large: {size} bytes, an image of {max_pixels} pixels has at most {limit}"
        )


@contextmanager
def opened(content: bytes) -> Iterator[Image.Image]:
    """Yield a Pillow image of which only the header is read.

    Raises:
        UnusableImageError: not an image, or the block failed to decode it.
    """
    if not content:
        raise UnusableImageError("empty: 0 bytes")
    # For the whole process and not restored, for threads do this at the same time. Pillow's own
    # pixel limit is off: the caller's decides. Its warnings of damaged EXIF and the like would
    # fill the screen, and name no file.
    Image.MAX_IMAGE_PIXELS = None
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            yield image
    except UnusableImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnusableImageError("not an image: no known format") from error
    except Exception as error:  # on damaged data, Pillow's plugins raise anything
        raise UnusableImageError(_damage(error)) from error


def _damage(error: Exception) -> str:
    """Sort what Pillow's decoders say."""
    if "truncated" in str(error).lower():
        return str(truncated())
    # Some messages hold an address in memory, which is another in each run.
    return "damaged: " + re.sub(r" at 0x[0-9a-f]+", "", str(error))


def truncated() -> UnusableImageError:
    """Make the error for content that ends too early."""
    return UnusableImageError("truncated: the file ends before the image does")


class Header(NamedTuple):
    """What an image says of itself.

    Attributes:
        width, height: px, before any EXIF turn.
        mode: Pillow's.
        bits: per sample: 8 or 16; None for a depth that cannot be used.
    """

    width: int
    height: int
    mode: str
    bits: int | None


def read_header(content: bytes) -> Header:
    """Read the header alone.

    Raises:
        UnusableImageError: not an image, or none with sides that any decoder takes.
    """
    frame = _jpeg_frame(content)
    if frame is not None:
        height, width, channels = frame
        return Header(width, height, "L" if channels == 1 else "RGB", 8)
    with opened(content) as image:
        if not 0 < max(image.size) <= _MOST_PX:
            raise UnusableImageError(f"damaged: a header of {image.width} x {image.height} px")
        try:
            bits = bits_per_sample(image)
        except UnusableImageError:
            bits = None
        return Header(image.width, image.height, image.mode, bits)


def bits_per_sample(image: Image.Image) -> int:
    """Return 8 or 16, from the header alone.

    Raises:
        UnusableImageError: 32-bit integers or floats, of which nobody knows what white is.
    """
    # Pillow opens 16-bit RGB in the 8-bit mode RGB; only the raw mode of its tiles shows it.
    raw = " ".join(str(tile.args) for tile in getattr(image, "tile", ()))
    if ";16" in image.mode or ";16" in raw:
        return 16
    if image.mode in {"I", "F"}:
        raise UnusableImageError(
            f"unusable depth: 32-bit samples (mode {image.mode}), convert them to 8 or 16 bits"
        )
    return 8


def decode(content: bytes, background: int, *, grey: bool, needed: tuple[int, int]) -> Pixels:
    """Return the pixels, turned upright and opaque.

    Args:
        content: of an image file; `decode_strictly` notices more damage.
        background: grey level 0-255 that shows through transparent pixels.
        grey: whether the caller takes only the luma, which a JPEG stores as such.
        needed: height and width that the caller will shrink to; a JPEG many times larger is
            decoded at a half, a quarter or an eighth, at a fraction of the cost.

    Returns:
        height x width x 1 or 3 (RGB), uint8 or uint16.

    Raises:
        UnusableImageError: not an image, truncated, damaged, or of unusable depth.
    """
    frame = _jpeg_frame(content)
    if frame is not None:
        pixels = decode_with_opencv(content, _jpeg_flags(frame, grey, needed))
    else:
        with opened(content) as image:
            if bits_per_sample(image) == 16:
                pixels = _decode_deep(content, image, background)
            else:
                pixels = _decode_with_pillow(image, background)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def is_plain_jpeg(content: bytes) -> bool:
    """Whether OpenCV decodes it: a grey or colour JPEG with 8 bits."""
    return _jpeg_frame(content) is not None


def _jpeg_frame(content: bytes) -> tuple[int, int, int] | None:
    """Read height, width and channels of a grey or colour JPEG with 8 bits; None for all else.

    By hand, as opening a small JPEG with Pillow takes a third of the time of decoding it.
    The markers and their segments are those of ITU-T T.81, annex B.
    """
    if not content.startswith(JPEG_SIGNATURE):
        return None
    start = 2
    while start + 10 <= len(content) and content[start] == 0xFF:
        marker, length = content[start + 1], int.from_bytes(content[start + 2 : start + 4])
        if marker in _FRAME_MARKERS:
            bits, height, width, channels = struct.unpack_from(">BHHB", content, start + 4)
            return (height, width, channels) if bits == 8 and channels in {1, 3} else None
        start += 1 if marker == 0xFF else 2 + length
    return None


def _jpeg_flags(frame: tuple[int, int, int], grey: bool, needed: tuple[int, int]) -> int:
    height, width, channels = frame
    flags = cv2.IMREAD_GRAYSCALE if grey or channels == 1 else cv2.IMREAD_COLOR_RGB
    # Sides may swap when the image is turned upright: compare the extremes.
    excess = min(height, width) / (_REDUCING_GAP * max(needed))
    for factor, reduced in _REDUCED:
        if excess >= factor:
            return int(flags | reduced)
    return int(flags)


def decode_with_opencv(content: bytes, flags: int) -> Pixels:
    """Decode without alpha; OpenCV applies the EXIF orientation unless a flag forbids it."""
    # Its warnings of odd TIFF tags would reach the console.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    try:
        pixels: Pixels | None = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise UnusableImageError(f"damaged: OpenCV does not read it ({error.err})") from error
    if pixels is None:
        raise _refused(content)
    return pixels


def _refused(content: bytes) -> UnusableImageError:
    """Find words for what OpenCV refuses without any: Pillow has some."""
    try:
        with opened(content) as image:
            image.load()
    except UnusableImageError as error:
        return error
    return UnusableImageError("damaged: OpenCV does not read it; save the image again")


def png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the data of each chunk; the last may lie beyond the content."""
    start = len(PNG_SIGNATURE)
    while start + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, start)
        yield kind, start + 8, start + 8 + length
        start += 12 + length


def _without_notes(content: bytes) -> bytes:
    """Return a PNG with the chunks alone that its pixels depend on."""
    chunks = (content[s - 8 : e + 4] for kind, s, e in png_chunks(content) if kind in _PNG_CHUNKS)
    return PNG_SIGNATURE + b"".join(chunks)


def _decode_deep(content: bytes, image: Image.Image, background: int) -> Pixels:
    """Decode 16 bits per sample, which Pillow would cut down to 8 in colour."""
    plain = _without_notes(content) if content.startswith(PNG_SIGNATURE) else content
    pixels = decode_with_opencv(plain, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    if pixels.ndim == 3:
        # Not IMREAD_COLOR_RGB: with 16-bit TIFF, OpenCV 5.0.0 then returns wrong values.
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    if image.mode != "RGBA":
        return pixels
    # OpenCV drops the alpha channel where it applies the orientation; Pillow's has 8 bits.
    alpha = np.asarray(ImageOps.exif_transpose(image).getchannel("A"))
    return _over(pixels, alpha, background)


def _decode_with_pillow(image: Image.Image, background: int) -> Pixels:
    image = ImageOps.exif_transpose(image)
    grey = image.mode in {"1", "L", "LA", "La"}
    if image.has_transparency_data:
        pixels = np.asarray(image.convert("LA" if grey else "RGBA"))
        return _over(pixels[..., :-1], pixels[..., -1], background)
    return np.asarray(image.convert("L" if grey else "RGB"))


def _over(pixels: Pixels, alpha: npt.NDArray[np.uint8], background: int) -> Pixels:
    """Lay the pixels over the background; 255 in `alpha` is opaque."""
    white = np.iinfo(pixels.dtype).max
    opacity = (alpha / np.float32(255)).reshape(*alpha.shape, *[1] * (pixels.ndim - 2))
    below = np.float32(background * (white // 255))
    return np.rint(below + (pixels - below) * opacity).astype(pixels.dtype)
