import io
import os
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.data.images.decode import UnusableImageError
from pipeline.data.packing.preprocess import preprocess, preprocess_file
from pipeline.data.shards.preprocessing import Preprocessing

RGB = Preprocessing(4, 4, 3, "stretch", 0, 8)


def png(pixels):
    """Encode by OpenCV, which writes 16 bits too; takes RGB."""
    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


def blocks(*rows, size=2, dtype=np.uint8):
    """Build a grey image of blocks of `size` x `size` px."""
    return np.kron(np.array(rows, dtype), np.ones((size, size), dtype))[..., None]


def test_grey_is_repeated_and_colour_becomes_luma():
    grey = np.full((4, 4, 1), 77, np.uint8)
    assert (preprocess(png(grey), RGB) == 77).all()
    colour = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    luma = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    assert (preprocess(png(colour), replace(RGB, channels=1)) == luma).all()
    deep = colour.astype(np.uint16) * 257
    luma = 0.299 * 200 * 257 + 0.587 * 100 * 257 + 0.114 * 50 * 257
    found = preprocess(png(deep), replace(RGB, channels=1, bit_depth=16))
    assert np.abs(found - luma).max() <= 2


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bit_depth", [8, 16])
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_shape_and_type_are_as_asked(channels, bit_depth, resize):
    to = Preprocessing(5, 9, channels, resize, 0, bit_depth)
    for dtype in (np.uint8, np.uint16):
        for source in (1, 3):
            for size in ((3, 2), (2, 3), (50, 7), (5, 9), (1, 40)):
                array = preprocess(png(np.ones((*size, source), dtype)), to)
                assert array.shape == (5, 9, channels)
                assert array.dtype == (np.uint8 if bit_depth == 8 else np.uint16)


def test_white_stays_white_between_depths():
    deep = np.array([[0, 257, 128, 129, 65535, 385, 386, 65406]], np.uint16)[..., None]
    to = Preprocessing(1, 8, 1, "stretch", 0, 8)
    # Nearest multiple of 257: 128 is below half of it, 129 above.
    assert preprocess(png(deep), to).ravel().tolist() == [0, 1, 0, 1, 255, 1, 2, 254]
    shallow = np.array([[0, 1, 255]], np.uint8)[..., None]
    to = Preprocessing(1, 3, 1, "stretch", 0, 16)
    assert preprocess(png(shallow), to).ravel().tolist() == [0, 257, 65535]


def test_shrinking_averages():
    pixels = blocks([0, 100], [200, 40], size=3)
    to = Preprocessing(2, 2, 1, "stretch", 0, 8)
    assert preprocess(png(pixels), to)[..., 0].tolist() == [[0, 100], [200, 40]]
    to = Preprocessing(1, 1, 1, "stretch", 0, 8)
    assert preprocess(png(pixels), to).item() == 85


@pytest.mark.parametrize("size", [(3, 7), (10, 10), (19, 28), (9, 29), (20, 11)])
def test_shrinking_colour_equals_opencv_on_bytes(size):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    expected = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA)
    found = preprocess(png(pixels), Preprocessing(*size, 3, "stretch", 0, 8))
    np.testing.assert_array_equal(found, expected)


def test_a_side_that_shrinks_is_averaged_even_where_the_other_grows():
    stripes = np.tile(np.array([0, 200], np.uint8), (1, 50))[..., None]  # 1 x 100
    to = Preprocessing(4, 10, 1, "stretch", 0, 8)
    assert (preprocess(png(stripes), to) == 100).all()


def test_growing_interpolates_between_the_ends():
    to = Preprocessing(1, 4, 1, "stretch", 0, 8)
    row = preprocess(png(np.array([[0, 200]], np.uint8)[..., None]), to).ravel().tolist()
    assert row == [0, 50, 150, 200]


def test_crop_fills_and_cuts_the_middle():
    wide = blocks([10, 20, 30, 40])  # 2 x 8
    to = Preprocessing(2, 4, 1, "crop", 0, 8)
    assert preprocess(png(wide), to)[..., 0].tolist() == [[20, 20, 30, 30]] * 2
    to = Preprocessing(1, 2, 1, "crop", 0, 8)
    assert preprocess(png(wide), to)[..., 0].tolist() == [[20, 30]]


@pytest.mark.parametrize("size", [(20, 30), (33, 17), (5, 3), (640, 480), (48, 20)])
@pytest.mark.parametrize("to", [(16, 16), (9, 5), (28, 40)])
def test_crop_is_the_middle_of_the_whole_resized(size, to):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 1)).astype(np.uint8)
    scale = max(to[0] / size[0], to[1] / size[1])
    whole = [max(round(side * scale), t) for side, t in zip(size, to, strict=True)]
    stretched = preprocess(png(pixels), Preprocessing(*whole, 1, "stretch", 0, 8))
    top, left = (whole[0] - to[0]) // 2, (whole[1] - to[1]) // 2
    expected = stretched[top : top + to[0], left : left + to[1]]
    found = preprocess(png(pixels), Preprocessing(*to, 1, "crop", 0, 8))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_line_of_a_million_pixels_takes_little_memory(resize, channels, monkeypatch):
    asked = []

    def resized(pixels, size, interpolation):
        asked.append(size[0] * size[1])
        return original(pixels, size, interpolation=interpolation)

    original = cv2.resize
    monkeypatch.setattr(cv2, "resize", resized)
    line = np.full((4, 900_000, channels), 70, np.uint8)
    for pixels in (line, line.transpose(1, 0, 2)):
        array = preprocess(png(pixels), Preprocessing(64, 64, channels, resize, 70, 8))
        assert (array == 70).all()
    assert max(asked) <= 4 * 64 * 64


def test_what_opencv_refuses_is_an_unusable_image(monkeypatch):
    def refuse(*_, **__):
        raise cv2.error("too\nmuch")

    monkeypatch.setattr(cv2, "resize", refuse)
    with pytest.raises(UnusableImageError, match=r"^damaged: too much$"):
        preprocess(png(np.ones((9, 9, 1), np.uint8)), RGB)


def test_pad_fits_and_fills_up_with_the_background():
    wide = blocks([10, 40])  # 2 x 4
    to = Preprocessing(4, 4, 1, "pad", 7, 8)
    assert preprocess(png(wide), to)[..., 0].tolist() == [
        [7, 7, 7, 7],
        [10, 10, 40, 40],
        [10, 10, 40, 40],
        [7, 7, 7, 7],
    ]
    deep = preprocess(png(wide), replace(to, bit_depth=16))
    assert deep[0, 0, 0] == 7 * 257


def test_a_line_padded_keeps_at_least_one_pixel():
    line = np.full((1, 1000, 1), 200, np.uint8)
    array = preprocess(png(line), Preprocessing(4, 4, 1, "pad", 0, 8))
    assert (array == 200).sum() == 4


def test_preprocess_file_names_the_file(tmp_path):
    path = tmp_path / "a.jpg"
    with pytest.raises(UnusableImageError, match=r"a\.jpg: unreadable: No such file"):
        preprocess_file(path, RGB)
    path.write_text("not an image")
    with pytest.raises(UnusableImageError, match=r"a\.jpg: not an image: no known format"):
        preprocess_file(path, RGB)
    Image.new("RGB", (20, 10)).save(path)
    with pytest.raises(UnusableImageError, match=r"a\.jpg: too large: 20 x 10 px is 200 pixels"):
        preprocess_file(path, RGB, max_pixels=199)
    assert preprocess_file(path, RGB, max_pixels=200).shape == (4, 4, 3)


def test_preprocess_file_reads_only_what_may_be_an_image(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnusableImageError, match=r"pipe: not a regular file"):
        preprocess_file(tmp_path / "pipe", RGB)
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(17 * 2**20)
    with pytest.raises(UnusableImageError, match=r"huge: too large: 17825792 bytes, an image of 9"):
        preprocess_file(tmp_path / "huge", RGB, max_pixels=9)


def test_preprocess_file_notices_truncation(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    content = buffer.getvalue()[:2000]
    path = tmp_path / "cut.jpg"
    path.write_bytes(content)
    with pytest.raises(UnusableImageError, match=r"cut\.jpg: truncated: the file ends before"):
        preprocess_file(path, RGB)
