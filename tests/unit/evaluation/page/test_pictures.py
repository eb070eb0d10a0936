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


def decoded(uri):
    return base64.b64decode(uri.partition(",")[2])


def test_pictures_within_the_budget_are_embedded_as_they_are():
    content = png(300, 200, 0, 144)
    found = embed({"a": content}, 10**6)["a"]
    assert found.uri.startswith("data:image/png;base64,")
    assert decoded(found.uri) == content
    # 144 pixels are an inch, which CSS has 96 of.
    assert (found.width, found.height) == (200, 133)


def test_beyond_the_budget_large_ones_become_small_and_keep_their_size_on_the_page():
    small, large = png(30, 20, 0, 144), png(900, 600, 1, 192)
    found = embed({"small": small, "large": large}, len(large))
    assert found["small"].uri.startswith("data:image/png")
    assert found["large"].uri.startswith("data:image/webp")
    assert len(decoded(found["large"].uri)) + len(small) < len(large)
    assert (found["large"].width, found["large"].height) == (450, 300)


def test_a_smaller_budget_costs_more_pixels():
    large = {"a": png(900, 600, 1, 192)}
    sizes = []
    for budget in (10**7, 450_000, 1000):
        content = decoded(embed(large, budget)["a"].uri)
        sizes.append(len(content))
        last = Image.open(io.BytesIO(content)).width
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 3
    assert last == 700


def test_a_picture_without_a_resolution_is_shown_pixel_by_pixel():
    buffer = io.BytesIO()
    Image.new("L", (30, 20)).save(buffer, "PNG")
    found = embed({"a": buffer.getvalue()}, 10**6)["a"]
    assert (found.width, found.height) == (30, 20)
