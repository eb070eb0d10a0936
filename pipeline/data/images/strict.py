"""Decoding that refuses all damage which a format shows. What it accepts, `decode` decodes too.

It is the same decoder. Beside that, the checksums of a PNG are compared, which no decoder does
everywhere, and libjpeg's warnings are read: of a scan that ends early, for one, it makes a picture
with a grey rest. Formats without checksums (BMP, GIF, PPM, WebP, most TIFF) show missing data, but
no altered pixels.
"""

import re
import struct
import zlib

import cv2

from pipeline.data.images._stderr import heard
from pipeline.data.images.decode import (
    JPEG_SIGNATURE,
    PNG_SIGNATURE,
    Header,
    Pixels,
    UnusableImageError,
    decode,
    decode_with_opencv,
    is_plain_jpeg,
    png_chunks,
    read_header,
    truncated,
)

# All warnings of libjpeg (jerror.h), and what libtiff writes. Even those that change no pixel
# would reach the console whenever the image is decoded.
_WARNING = re.compile(
    r"(Corrupt JPEG data|Premature end of JPEG|Inconsistent progression|Invalid SOS"
    r"|Unknown Adobe|Warning: unknown JFIF|Application transferred"
    r"|TIFF\w*: |JPEGLib: |\w+Decode\w*: ).*"
)


def verify(content: bytes, max_pixels: int) -> None:
    """Refuse what is no image, or larger than `max_pixels`, or damaged.

    Raises:
        UnusableImageError: see `decode_strictly`; what is too large is not decoded.
    """
    check_pixels(read_header(content), max_pixels, "the limit")
    decode_strictly(content, 0, grey=True, needed=(1, 1))


def check_pixels(header: Header, max_pixels: int, limit: str) -> None:
    """Refuse an image of more than `max_pixels`, from its header alone.

    Args:
        header: of the image.
        max_pixels: width times height at most.
        limit: what a message calls it.

    Raises:
        UnusableImageError: it is too large.
    """
    width, height = header.width, header.height
    if width * height > max_pixels:
        raise UnusableImageError(
            f"too large: {width} x {height} px is {width * height} pixels, {limit} is {max_pixels}"
        )


def decode_strictly(
    content: bytes, background: int, *, grey: bool, needed: tuple[int, int]
) -> Pixels:
    """Decode as `decode` does, and refuse damage; nothing is written to the console.

    Raises:
        UnusableImageError: not an image, truncated, damaged, or of unusable depth.
    """
    if content.startswith(PNG_SIGNATURE):
        _check_png(content)

    def decoded() -> Pixels:
        if content.startswith(JPEG_SIGNATURE) and not is_plain_jpeg(content):
            # Pillow decodes these, such as CMYK, without a word: for libjpeg's, OpenCV does too.
            decode_with_opencv(content, cv2.IMREAD_REDUCED_GRAYSCALE_8)
        return decode(content, background, grey=grey, needed=needed)

    pixels, said = heard(decoded)
    if warning := _WARNING.search(said):
        raise UnusableImageError(f"damaged: {warning[0].strip()}; save the image again")
    return pixels


def _check_png(content: bytes) -> None:
    """Compare the checksum of each chunk, up to the one that ends the image.

    Raises:
        UnusableImageError: a wrong checksum, or the end is missing.
    """
    for kind, start, end in png_chunks(content):
        if end + 4 > len(content):
            raise truncated()
        (expected,) = struct.unpack_from(">I", content, end)
        if zlib.crc32(memoryview(content)[start - 4 : end]) != expected:
            name = kind.decode("ascii", "backslashreplace")
            raise UnusableImageError(f"damaged: wrong checksum in the PNG chunk {name}")
        if kind == b"IEND":
            return
    raise truncated()
