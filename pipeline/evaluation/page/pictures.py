"""Pictures inside the page."""

import base64
import io
from dataclasses import dataclass

from PIL import Image

# What keeps the page below 5 MB however large the pictures are.
_LARGEST_PNG_BYTES = 250_000
_WIDEST_PX = 1400
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


def embed(png: bytes) -> Picture:
    """Turn a PNG into what the page holds. Its size comes from its resolution."""
    with Image.open(io.BytesIO(png)) as picture:
        scale = _CSS_PX_PER_INCH / float(picture.info.get("dpi", (_CSS_PX_PER_INCH,))[0])
        width, height = (round(side * scale) for side in picture.size)
        content, kind = png, "png"
        if len(png) > _LARGEST_PNG_BYTES:
            picture.thumbnail((_WIDEST_PX, _WIDEST_PX * 4))
            buffer = io.BytesIO()
            picture.convert("RGB").save(buffer, "WEBP", quality=82)
            content, kind = buffer.getvalue(), "webp"
    text = base64.b64encode(content).decode()
    return Picture(f"data:image/{kind};base64,{text}", width, height)
