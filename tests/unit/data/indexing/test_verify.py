import hashlib
import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.data.images.decode import UnusableImageError
from pipeline.data.images.strict import decode_strictly
from pipeline.data.indexing import verify
from pipeline.data.indexing.verify import Limits, Measurement, measure
from pipeline.data.packing.preprocess import preprocess_file
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.data.sources.folder import FolderSource
from pipeline.data.sources.source import read_ahead

LIMITS = Limits(max_pixels=100_000_000, min_side=4)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def _encode(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _huge_png(width: int, height: int) -> bytes:
    """A whole, valid PNG of one bit per pixel, made row by row."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    compressor = zlib.compressobj(1)
    row = b"\0" * (1 + (width + 7) // 8)
    rows = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000"])
def test_a_sound_image(kind: str) -> None:
    content = _encode(NOISE, kind)
    measured = measure(content, LIMITS)
    assert measured.problem is None
    assert (measured.width, measured.height, measured.bits) == (60, 40, 8)
    assert measured.mode == ("P" if kind == "GIF" else "RGB")
    assert measured.sha256 == hashlib.sha256(content).hexdigest()
    assert len(measured.phash) == 32
    assert len(measured.thumbnail) == 192


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP", "GIF", "PPM"])
@pytest.mark.parametrize("kept", [0.5, 0.95])
def test_truncated(kind: str, kept: float) -> None:
    content = _encode(NOISE, kind)
    measured = measure(content[: int(len(content) * kept)], LIMITS)
    assert measured.problem == "truncated: the file ends before the image does"
    assert (measured.width, measured.phash) == (60, None)


def test_a_large_photograph_is_read_to_its_end_although_decoded_small() -> None:
    content = _encode(NOISE.resize((1200, 800)), "JPEG")
    assert measure(content, LIMITS).problem is None
    assert measure(content[:-200], LIMITS).problem.startswith("truncated")
    assert (measure(content, LIMITS).width, measure(content, LIMITS).height) == (1200, 800)


def test_damaged() -> None:
    content = bytearray(_encode(NOISE, "PNG"))
    content[len(content) // 2] ^= 255
    problem = measure(bytes(content), LIMITS).problem
    assert problem == "damaged: wrong checksum in the PNG chunk IDAT"


def test_equal_contents_are_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []

    def counted(content: bytes, *rest: object, **options: object) -> object:
        decoded.append(content)
        return decode_strictly(content, *rest, **options)

    monkeypatch.setattr(verify, "decode_strictly", counted)
    monkeypatch.setattr(verify, "_LATEST", {})
    monkeypatch.setattr(verify, "_REMEMBERED", 3)
    contents = [_encode(NOISE, "PNG", compress_level=level) for level in (1, 2)]
    for content in contents * 3:
        assert measure(content, LIMITS) == verify._measure(
            content, hashlib.sha256(content).hexdigest(), LIMITS
        )
    assert len(decoded) == 2 + 6
    for min_side in (5, 6, 7):
        measure(contents[0], Limits(10**8, min_side))
    assert len(verify._LATEST) == 3


def test_empty_and_text() -> None:
    empty = measure(b"", LIMITS)
    assert (empty.problem, empty.sha256) == ("empty: 0 bytes", hashlib.sha256().hexdigest())
    assert measure(b"no picture at all", LIMITS).problem == "not an image: no known format"


def test_a_format_that_starts_a_program_is_no_image() -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    assert measure(postscript, LIMITS).problem == "not an image: no known format"


def test_too_large_is_told_from_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    content = _huge_png(30_000, 30_000)
    assert len(content) < 1_000_000

    def decoded(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(verify, "decode_strictly", decoded)
    limit = Image.MAX_IMAGE_PIXELS
    measured = measure(content, LIMITS)
    assert measured.problem == (
        "too large: 30000 x 30000 px is 900000000 pixels, index.max_pixels is 100000000"
    )
    assert (measured.width, measured.mode) == (30_000, "1")
    assert limit == Image.MAX_IMAGE_PIXELS


def test_the_limits_themselves_are_allowed() -> None:
    content = _encode(NOISE, "PNG")
    assert measure(content, Limits(2400, 40)).problem is None
    assert measure(content, Limits(2399, 40)).problem.startswith("too large: 60 x 40 px")
    assert measure(content, Limits(2400, 41)).problem == (
        "too small: 60 x 40 px, index.min_side is 41 px"
    )


def _measured(root: Path, name: str, limits: Limits) -> Measurement:
    (content,) = read_ahead(FolderSource(root), [name], limits.max_pixels)
    return measure(content, limits)


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = _measured(tmp_path, "a.png", LIMITS)
    assert missing.problem == "unreadable: No such file or directory"
    assert missing.sha256 is None

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.png").touch()
    monkeypatch.setattr("builtins.open", refuse)
    assert _measured(tmp_path, "a.png", LIMITS).problem == "unreadable: Permission denied"


def test_what_cannot_be_an_image_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert _measured(tmp_path, "pipe.png", LIMITS).problem == "not a regular file"
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(2**40)  # takes no room on the disk
    assert _measured(tmp_path, "huge.png", LIMITS).problem == (
        "too large: 1099511627776 bytes, an image of 100000000 pixels has at most 816777216"
    )


def test_the_largest_image_uncompressed_is_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 2**16, (1500, 1500, 4)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.tif"), pixels, [cv2.IMWRITE_TIFF_COMPRESSION, 1])
    assert (tmp_path / "a.tif").stat().st_size > 8 * 1500**2
    assert _measured(tmp_path, "a.tif", Limits(1500**2, 4)).problem is None


@pytest.mark.parametrize("content", [b"", b"text", _encode(NOISE, "PNG")[:200], _huge_png(99, 99)])
def test_the_index_and_prediction_say_the_same(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    problem = _measured(tmp_path, "a.png", Limits(2400, 1)).problem
    with pytest.raises(UnusableImageError) as caught:
        preprocess_file(tmp_path / "a.png", Preprocessing(8, 8, 1, "pad", 0, 8), max_pixels=2400)
    expected = problem.replace("index.max_pixels", "the limit")
    assert str(caught.value) == f"{tmp_path / 'a.png'}: {expected}"


@pytest.mark.parametrize(
    ("picture", "mode"),
    [
        (NOISE.convert("L"), "L"),
        (NOISE.convert("1"), "1"),
        (NOISE.convert("LA"), "LA"),
        (NOISE.convert("RGBA"), "RGBA"),
        (NOISE.convert("P"), "P"),
    ],
)
def test_every_mode_is_measured_like_its_picture(picture: Image.Image, mode: str) -> None:
    measured = measure(_encode(picture, "PNG"), LIMITS)
    assert (measured.mode, measured.bits, measured.problem) == (mode, 8, None)
    reference = np.unpackbits(np.frombuffer(measure(_encode(NOISE, "PNG"), LIMITS).phash, np.uint8))
    # Dithering to one bit or a palette of 216 changes some of noise's own frequencies.
    bits = np.unpackbits(np.frombuffer(measured.phash, np.uint8))
    assert (bits != reference).sum() < 60


def test_cmyk_and_palettes_with_transparent_entries() -> None:
    assert measure(_encode(NOISE.convert("CMYK"), "JPEG"), LIMITS).mode == "CMYK"
    palette = NOISE.convert("P")
    content = _encode(palette, "PNG", transparency=bytes(range(256)))
    assert measure(content, LIMITS).problem is None


def test_16_bits_are_seen_in_colour_too() -> None:
    samples = np.random.default_rng(0).integers(0, 4096, (20, 20, 3)).astype(np.uint16)
    for picture in (samples, samples[..., 0]):
        for suffix in (".png", ".tif"):
            content = cv2.imencode(suffix, picture)[1].tobytes()
            measured = measure(content, LIMITS)
            assert (measured.bits, measured.problem) == (16, None)


def test_12_bits_in_16_look_like_the_picture_in_8() -> None:
    shallow = np.asarray(NOISE.convert("L"))
    deep = measure(cv2.imencode(".png", shallow.astype(np.uint16) << 4)[1].tobytes(), LIMITS)
    flat = measure(cv2.imencode(".png", shallow)[1].tobytes(), LIMITS)
    assert (deep.phash, deep.thumbnail) == (flat.phash, flat.thumbnail)


def test_floats_have_no_known_white() -> None:
    measured = measure(_encode(NOISE.convert("F"), "TIFF"), LIMITS)
    assert measured.problem.startswith("unusable depth: 32-bit samples (mode F)")


def test_a_shape_in_the_alpha_channel_is_seen() -> None:
    alpha = Image.new("L", (32, 32), 0)
    alpha.paste(255, (4, 4, 14, 20))
    for colour in (0, 255):
        grey = Image.new("L", (32, 32), colour)
        content = _encode(Image.merge("LA", (grey, alpha)), "PNG")
        assert len(set(measure(content, LIMITS).thumbnail)) > 1


def test_the_hash_sees_the_picture_upright() -> None:
    exif = Image.Exif()
    exif[274] = 6  # turn by 270 degrees to show
    smooth = NOISE.resize((6, 4)).resize((60, 40), Image.Resampling.BICUBIC)
    upright = _encode(smooth, "PNG")
    turned = _encode(smooth.rotate(90, expand=True), "PNG", exif=exif)
    assert measure(turned, LIMITS).phash == measure(upright, LIMITS).phash
    assert (measure(turned, LIMITS).width, measure(turned, LIMITS).height) == (40, 60)
