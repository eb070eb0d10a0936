"""Whether an image can be used, and what it measures."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageOps

from pipeline.data.images.decode import (
    UnusableImageError,
    bits_per_sample,
    check_pixels,
    opened,
)
from pipeline.data.indexing.near_duplicates import perceptual_hash, thumbnail
from pipeline.data.sources.source import ImageSource

_DRAFT_SIDE = 64  # px; the hash needs 32


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


def measure_image(source: ImageSource, path: str, limits: Limits) -> Measurement:
    """Read one image of a source and measure it; the problem, if any, is in the result."""
    try:
        content = source.read(path, limits.max_pixels)
    except UnusableImageError as error:
        return Measurement(problem=str(error))
    return measure(content, limits)


def measure(content: bytes, limits: Limits) -> Measurement:
    """Measure the content of one image file."""
    found = Measurement(len(content), hashlib.sha256(content).hexdigest())
    try:
        with opened(content) as image:
            found = replace(found, width=image.width, height=image.height, mode=image.mode)
            check_pixels(image, limits.max_pixels, "index.max_pixels")
            _check_sides(image, limits.min_side)
            found = replace(found, bits=bits_per_sample(image))
            picture = upright_picture(image, _DRAFT_SIDE)
    except UnusableImageError as error:
        return replace(found, problem=str(error))
    return replace(found, phash=perceptual_hash(picture), thumbnail=thumbnail(picture))


def _check_sides(image: Image.Image, min_side: int) -> None:
    if min(image.size) < min_side:
        raise UnusableImageError(
            f"too small: {image.width} x {image.height} px, index.min_side is {min_side} px"
        )


def upright_picture(image: Image.Image, side: int) -> Image.Image:
    """Decode the whole image, upright, in RGB or L, not much larger than `side` px.

    All of the file is read, so that truncation shows; but JPEG is decoded to a smaller size,
    which costs a fraction for photographs.
    """
    image.draft("RGB" if image.mode == "RGB" else "L", (side, side))
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):
        return _eight_bits(image)
    if image.has_transparency_data:
        # Black or white shapes may live in the alpha channel alone: grey shows both.
        coloured = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (128, 128, 128, 255))
        return Image.alpha_composite(ground, coloured).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Bring 16-bit samples to 8, by the smallest power of two that holds them all.

    A sensor of 12 bits in a 16-bit file is so not taken for a black picture.
    """
    samples = np.asarray(image, np.int64)
    used_bits = max(8, int(samples.max()).bit_length())
    return Image.fromarray((samples >> (used_bits - 8)).astype(np.uint8))
