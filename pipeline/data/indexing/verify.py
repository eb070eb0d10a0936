"""Whether an image can be used, and what it measures."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from pipeline.data.images.decode import Header, Pixels, UnusableImageError, read_header
from pipeline.data.images.strict import check_pixels, decode_strictly
from pipeline.data.indexing.near_duplicates import perceptual_hash, thumbnail

_NEEDED = 32  # px, for the hash
# Black or white shapes may live in the alpha channel alone: grey shows both.
GROUND = 128


@dataclass(frozen=True)
class Limits:
    """What is usable.

    Attributes:
        max_pixels: width times height at most; larger images are not decoded.
        min_side: px; the shorter side at least.
    """

    max_pixels: int
    min_side: int


@dataclass(frozen=True)
class Measurement:
    """What one image holds; None where its content could not be read that far.

    Attributes:
        size: of the content, bytes.
        sha256: of the content, hex.
        phash, thumbnail: see `near_duplicates`.
        width, height: from the header, px, before any EXIF turn.
        mode: Pillow's, from the header.
        bits: per sample, 8 or 16.
        problem: why the image cannot be used, as 'kind: detail'.
    """

    size: int | None = None
    sha256: str | None = None
    phash: bytes | None = None
    thumbnail: bytes | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    bits: int | None = None
    problem: str | None = None


# Measurements of this process: a file may lie in a folder a thousand times.
_REMEMBERED = 1000
_LATEST: dict[tuple[str, Limits], Measurement] = {}


def measure(content: bytes | UnusableImageError, limits: Limits) -> Measurement:
    """Measure the content of one image file; of equal contents mostly the first alone.

    Args:
        content: or why it could not be read.
        limits: what is usable.
    """
    if isinstance(content, UnusableImageError):
        return Measurement(problem=str(content))
    sha256 = hashlib.sha256(content).hexdigest()
    if (known := _LATEST.get((sha256, limits))) is None:
        known = _LATEST[sha256, limits] = _measure(content, sha256, limits)
        if len(_LATEST) > _REMEMBERED:
            del _LATEST[next(iter(_LATEST))]
    return known


def _measure(content: bytes, sha256: str, limits: Limits) -> Measurement:
    found = Measurement(len(content), sha256)
    try:
        header = read_header(content)
        found = replace(found, width=header.width, height=header.height, mode=header.mode)
        check_pixels(header, limits.max_pixels, "index.max_pixels")
        _check_sides(header, limits.min_side)
        found = replace(found, bits=header.bits)
        pixels = decode_strictly(content, GROUND, grey=False, needed=(_NEEDED, _NEEDED))
    except UnusableImageError as error:
        return replace(found, problem=str(error))
    picture = eight_bits(pixels)
    return replace(found, phash=perceptual_hash(picture), thumbnail=thumbnail(picture))


def _check_sides(header: Header, min_side: int) -> None:
    if min(header.width, header.height) < min_side:
        raise UnusableImageError(
            f"too small: {header.width} x {header.height} px, index.min_side is {min_side} px"
        )


def eight_bits(pixels: Pixels) -> Image.Image:
    """Bring 16-bit samples to 8, by the smallest power of two that holds them all.

    A sensor of 12 bits in a 16-bit file is so not taken for a black picture.
    """
    if pixels.dtype != np.uint8:
        used_bits = max(8, int(pixels.max()).bit_length())
        pixels = (pixels >> (used_bits - 8)).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
