"""Whether a file is an image that can be used, and what it measures."""

import errno
import hashlib
import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.data.near_duplicates import perceptual_hash, thumbnail

# Pillow opens more than these, some with outside programs (EPS starts Ghostscript).
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

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
class Measured:
    """What one file holds; None where the file did not let itself be read that far.

    Attributes:
        sha256: of the content, hex.
        phash, thumbnail: see `near_duplicates`.
        width, height: from the header, px, before any EXIF turn.
        mode: Pillow's, from the header.
        bits: per sample, 8 or 16.
        problem: why the file cannot be used.
    """

    sha256: str | None = None
    phash: bytes | None = None
    thumbnail: bytes | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    bits: int | None = None
    problem: str | None = None


def measure_file(path: Path, limits: Limits) -> Measured:
    """Read one file and measure what it holds; the problem, if any, is in the result."""
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = os.strerror(error.errno or errno.EIO)
        return Measured(problem=f"unreadable: {reason}")
    return measure(content, limits)


def measure(content: bytes, limits: Limits) -> Measured:
    """Measure the content of one image file."""
    sha256 = hashlib.sha256(content).hexdigest()
    if not content:
        return Measured(sha256, problem="empty: 0 bytes")
    with _tolerant_pillow():
        try:
            image = Image.open(io.BytesIO(content), formats=FORMATS)
        except UnidentifiedImageError:
            return Measured(sha256, problem="not an image: no known format")
        except Exception as error:  # a damaged header raises whatever its parser meets
            return Measured(sha256, problem=f"damaged: {_words(error)}")
        with image:
            width, height = image.size
            header = Measured(
                sha256, None, None, width, height, image.mode, _bits_per_sample(image)
            )
            problem = _size_problem(width, height, limits)
            if problem:
                return replace(header, problem=problem)
            try:
                picture = _small_picture(image)
            except Exception as error:
                return replace(header, problem=_decoding_problem(error))
    return replace(header, phash=perceptual_hash(picture), thumbnail=thumbnail(picture))


@contextmanager
def _tolerant_pillow() -> Iterator[None]:
    """Open images of any size, so that the header can tell it, and without warnings.

    Pillow refuses large images when it opens them, at a limit of its own; ours decides, from the
    header, before anything is decoded.
    """
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _size_problem(width: int, height: int, limits: Limits) -> str | None:
    if width * height > limits.max_pixels:
        return (
            f"too large: {width} x {height} px is {width * height} pixels,"
            f" index.max_pixels is {limits.max_pixels}"
        )
    if min(width, height) < limits.min_side:
        return f"too small: {width} x {height} px, index.min_side is {limits.min_side} px"
    return None


def _decoding_problem(error: Exception) -> str:
    """Name what is wrong with an image whose header is sound."""
    words = _words(error)
    if "truncated" in words:
        return "truncated: the file ends before the image does"
    return f"damaged: {words}"


def _words(error: Exception) -> str:
    """Return the error's message in one line, without addresses in memory."""
    message = " ".join(str(error).split()) or type(error).__name__
    return re.sub(r" at 0x[0-9a-f]+", "", message)


def _bits_per_sample(image: Image.Image) -> int:
    """Return 16 for more than 8 bits; Pillow's mode hides it for colour images."""
    if image.mode.startswith(("I", "F")):
        return 16
    return 16 if re.search(r";16[BLNS]", str(getattr(image, "tile", ""))) else 8


def _small_picture(image: Image.Image) -> Image.Image:
    """Decode the whole image, upright, in RGB or L, not much larger than the hash needs.

    All of the file is read, so that truncation shows; but JPEG is decoded to a smaller size,
    which costs a fraction for photographs.
    """
    image.draft("RGB" if image.mode == "RGB" else "L", (_DRAFT_SIDE, _DRAFT_SIDE))
    image.load()
    if image.mode.startswith(("I", "F")):
        return _eight_bits(image)
    if image.has_transparency_data:
        # Black or white shapes may live in the alpha channel alone: grey shows both.
        coloured = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (128, 128, 128, 255))
        return ImageOps.exif_transpose(Image.alpha_composite(ground, coloured)).convert("RGB")
    picture = image.convert("L" if image.mode in ("1", "L") else "RGB")
    picture.info["exif"] = image.info.get("exif", b"")
    return ImageOps.exif_transpose(picture)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Bring 16 and 32 bit samples to 8, by the smallest power of two that holds them all.

    A sensor of 12 bits in a 16-bit file is so not taken for a black picture.
    """
    samples = np.asarray(image, np.float64)
    samples = np.where(np.isfinite(samples), samples, 0.0).clip(0.0)
    full = 2.0 ** np.ceil(np.log2(max(float(samples.max()), 1.0) + 1.0))
    return Image.fromarray((samples / full * 256.0).astype(np.uint8))
