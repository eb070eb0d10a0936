import base64
import io

import numpy as np
from PIL import Image

from pipeline.evaluation.page.pictures import embed


def png(width, height, seed, dpi):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels // 8 * 8).save(buffer, "PNG", dpi=(dpi, dpi))
    return buffer.getvalue()


def test_a_small_picture_is_embedded_as_it_is():
    content = png(30, 20, 0, 144)
    found = embed(content)
    assert found.uri == "data:image/png;base64," + base64.b64encode(content).decode()
    # 144 pixels are an inch, which CSS has 96 of.
    assert (found.width, found.height) == (20, 13)


def test_a_large_picture_becomes_small_and_keeps_its_size_on_the_page():
    content = png(1800, 1200, 0, 192)
    found = embed(content)
    assert found.uri.startswith("data:image/webp;base64,")
    assert len(found.uri) < len(content)
    assert (found.width, found.height) == (900, 600)


def test_a_picture_without_a_resolution_is_shown_pixel_by_pixel():
    buffer = io.BytesIO()
    Image.new("L", (30, 20)).save(buffer, "PNG")
    found = embed(buffer.getvalue())
    assert (found.width, found.height) == (30, 20)
