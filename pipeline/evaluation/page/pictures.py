"""Pictures inside the page."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

# What keeps the page below 5 MB: base64 makes 4 bytes of 3, and the text needs some too.
BUDGET_BYTES = 2_900_000
# Pictures larger than this become WebP: (width in pixels, quality), until the budget is kept.
_LARGE_BYTES = 150_000
_REDUCTIONS = ((1400, 82), (1400, 60), (1000, 55), (700, 40))
# CSS defines an inch as so many of its pixels.
_CSS_PX_PER_INCH = 96


@dataclass(frozen=True)
class Picture:
    """A picture as the page holds it.

    Attributes:
        uri: data URI of a PNG, or of a WebP where the PNG would be large.
        width: in CSS pixels, at which writing has the size that it was drawn with.
        height: likewise.
    """

    uri: str
    width: int
    height: int


def embed(pngs: Mapping[str, bytes], budget: int) -> dict[str, Picture]:
    """Turn PNGs into what the page holds. Sizes come from their resolutions.

    Large ones lose quality, and then pixels, as far as it takes to keep the budget.

    Args:
        pngs: by name.
        budget: bytes of all pictures together.
    """
    content = dict(pngs)
    for width, quality in _REDUCTIONS:
        if sum(map(len, content.values())) <= budget:
            break
        for name, png in pngs.items():
            if len(png) > _LARGE_BYTES:
                content[name] = _as_webp(png, width, quality)
    return {name: _picture(png, content[name]) for name, png in pngs.items()}


def _as_webp(png: bytes, width: int, quality: int) -> bytes:
    """Return a picture as WebP, at most `width` pixels wide."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        picture.thumbnail((width, 8 * width))
        picture.convert("RGB").save(buffer, "WEBP", quality=quality)
    return buffer.getvalue()


def _picture(png: bytes, content: bytes) -> Picture:
    with Image.open(io.BytesIO(png)) as picture:
        scale = _CSS_PX_PER_INCH / float(picture.info.get("dpi", (_CSS_PX_PER_INCH,))[0])
        width, height = (round(side * scale) for side in picture.size)
    kind = "png" if content is png else "webp"
    text = base64.b64encode(content).decode()
    return Picture(f"data:image/{kind};base64,{text}", width, height)
