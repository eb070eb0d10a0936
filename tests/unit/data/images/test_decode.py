import io
import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.data.images.decode import UnusableImageError, bits_per_sample, decode, opened
from pipeline.data.images.strict import verify


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(content, background=0, grey=False, needed=(10**6, 10**6)):
    return decode(content, background, grey=grey, needed=needed)


def gradient(height=24, width=40):
    y, x = np.mgrid[0:height, 0:width]
    return np.dstack(
        [x * 255 // width, y * 255 // height, (x + y) * 255 // (height + width)]
    ).astype(np.uint8)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(colour_type, bits, rows, width, *, extra=b""):
    """Write a PNG by hand, for what Pillow and OpenCV do not write."""
    head = struct.pack(">IIBBBBB", width, len(rows), bits, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_exif_orientation_is_turned_upright_as_pillow_does(kind, orientation, mode):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(gradient()).convert(mode), kind, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))

    pixels = decoded(content)

    assert pixels.shape[:2] == ((40, 24) if orientation >= 5 else (24, 40))
    np.testing.assert_array_equal(pixels, upright.reshape(pixels.shape))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("alpha", [False, True])
def test_16_bit_png_is_turned_upright(orientation, alpha):
    exif = Image.Exif()
    exif[0x0112] = orientation
    deep = gradient().astype(np.uint16) * 257
    rows = np.dstack([deep, np.full((24, 40), 65535)]) if alpha else deep
    exif_chunk = chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))
    content = png(
        6 if alpha else 2, 16, [r.astype(">u2").tobytes() for r in rows], 40, extra=exif_chunk
    )
    shallow = encoded(Image.fromarray(gradient()), "PNG", exif=exif)

    np.testing.assert_array_equal(decoded(content), decoded(shallow).astype(np.uint16) * 257)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_equals_pillow(mode, progressive):
    image = Image.fromarray(gradient()).convert(mode)
    content = encoded(image, "JPEG", quality=90, progressive=progressive)
    reference = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(decoded(content), reference.reshape(decoded(content).shape))


def test_grey_of_a_jpeg_is_its_luma():
    content = encoded(Image.fromarray(gradient()), "JPEG", quality=95)
    luma = gradient() @ [0.299, 0.587, 0.114]
    grey = decoded(content, grey=True)
    assert grey.shape == (24, 40, 1)
    assert np.abs(grey[..., 0] - luma).mean() < 2


@pytest.mark.parametrize(("side", "expected"), [(127, 127), (128, 64), (256, 64), (512, 64)])
def test_a_jpeg_much_too_large_is_decoded_smaller_but_twice_what_is_needed(side, expected):
    content = encoded(Image.fromarray(gradient(side, side)), "JPEG")
    assert decoded(content, needed=(32, 32)).shape == (expected, expected, 3)


def test_a_smaller_decoding_shows_the_same_picture():
    content = encoded(Image.fromarray(gradient(256, 256)), "JPEG", quality=95)
    small = decoded(content, needed=(32, 32))
    full = cv2.resize(decoded(content), (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - full).mean() < 0.5


def test_palette_with_and_without_transparency():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 200])
    image.putpixel((1, 0), 1)
    assert decoded(encoded(image, "PNG")).tolist() == [[[255, 0, 0], [0, 0, 200]]]
    clear = encoded(image, "PNG", transparency=0)
    assert decoded(clear, background=9).tolist() == [[[9, 9, 9], [0, 0, 200]]]
    half = encoded(image, "PNG", transparency=bytes([51, 255]))
    assert decoded(half, background=100).tolist() == [[[131, 80, 80], [0, 0, 200]]]


def test_alpha_shows_the_background_in_proportion():
    pixels = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]], np.uint8)
    content = encoded(Image.fromarray(pixels), "PNG")
    expected = [[[200, 100, 0], [50, 50, 50], [80, 60, 40]]]
    assert decoded(content, background=50).tolist() == expected


def test_grey_with_alpha_stays_one_channel():
    pixels = np.array([[[200, 255], [200, 0]]], np.uint8)
    content = encoded(Image.fromarray(pixels, "LA"), "PNG")
    assert decoded(content, background=7).tolist() == [[[200], [7]]]


def test_a_transparent_colour_of_a_grey_png_shows_the_background():
    content = png(0, 8, [bytes([10, 200])], 2, extra=chunk(b"tRNS", struct.pack(">H", 10)))
    assert decoded(content, background=99).tolist() == [[[99], [200]]]


def test_one_bit_is_black_and_white():
    content = encoded(Image.fromarray(np.array([[False, True]])), "PNG")
    assert decoded(content).tolist() == [[[0], [255]]]


def test_two_bit_grey_spans_the_range():
    assert decoded(png(0, 2, [bytes([0b00011011])], 4)).ravel().tolist() == [0, 85, 170, 255]


def test_cmyk_jpeg_becomes_rgb():
    image = Image.fromarray(gradient()).convert("CMYK")
    pixels = decoded(encoded(image, "JPEG", quality=98, subsampling=0))
    assert pixels.shape == (24, 40, 3)
    assert np.abs(pixels.astype(int) - gradient()).mean() < 4


@pytest.mark.parametrize("kind", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_stay_16_bits(kind, channels):
    pixels = np.random.default_rng(0).integers(0, 65536, (5, 7, channels)).astype(np.uint16)
    content = cv2.imencode(kind, pixels[..., ::-1])[1].tobytes()
    with opened(content) as image:
        assert bits_per_sample(image) == 16
    np.testing.assert_array_equal(decoded(content), pixels)


def test_16_bit_alpha_shows_the_background():
    pixels = np.array([[[60000, 30000, 0, 65535], [60000, 30000, 0, 0]]], np.uint16)
    content = png(6, 16, [pixels.astype(">u2").tobytes()], 2)
    expected = [[[60000, 30000, 0], [257, 257, 257]]]
    assert decoded(content, background=1).tolist() == expected
    grey = np.array([[[1000, 65535], [2000, 0]]], ">u2")
    assert decoded(png(4, 16, [grey.tobytes()], 2), background=1)[0, :, 0].tolist() == [1000, 257]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_samples_are_refused(dtype):
    content = encoded(Image.fromarray(np.ones((4, 4), dtype)), "TIFF")
    with pytest.raises(UnusableImageError, match=r"^unusable depth: 32-bit samples \(mode [IF]\)"):
        decoded(content)
    with pytest.raises(UnusableImageError, match="32-bit"):
        verify(content, 100)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP"])
def test_verify_accepts_whole_files_and_refuses_truncated_ones(kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    verify(content, 64 * 64)
    with pytest.raises(
        UnusableImageError, match=r"^truncated: the file ends before the|^damaged: could not create"
    ):
        verify(content[: len(content) // 2], 64 * 64)


@pytest.mark.parametrize("content", [b"", b"hello, world", b"\xff\xd8\xff", b"%!PS-Adobe-3.0 EPSF"])
def test_what_is_no_image_is_refused(content):
    with pytest.raises(UnusableImageError, match=r"^(empty|not an image|truncated|damaged): "):
        verify(content, 10**6)
    with pytest.raises(UnusableImageError, match=r"^(empty|not an image|truncated|damaged): "):
        decoded(content)


def test_the_callers_pixel_limit_decides_not_pillows(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    content = encoded(Image.new("L", (60, 50)), "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verify(content, 3000)
        assert decoded(content).shape == (50, 60, 1)
    with pytest.raises(
        UnusableImageError, match=r"^too large: 60 x 50 px is 3000 pixels, the limit is 2999$"
    ):
        verify(content, 2999)


def test_a_huge_image_is_refused_from_its_header():
    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"")
    with pytest.raises(UnusableImageError, match=r"^too large: 30000 x 30000 px is 900000000"):
        verify(content, 100_000_000)
