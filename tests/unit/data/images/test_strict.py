import os
import struct
import threading
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from pipeline.data.images._stderr import heard
from pipeline.data.images.decode import UnusableImageError, decode
from pipeline.data.images.strict import decode_strictly, verify
from tests.damage import console, encoded, fuzz, picture

PICTURE = picture(np.random.default_rng(0)).resize((120, 80))


def _refusal(content: bytes) -> str:
    with console() as said, pytest.raises(UnusableImageError) as caught:
        decode_strictly(content, 0, grey=False, needed=(8, 8))
    assert said == []
    return str(caught.value)


def test_two_hundred_damaged_images_are_refused_by_name_or_decode() -> None:
    counts, wrong = fuzz(200)
    assert wrong == []
    assert sum(counts.values()) == 200
    assert counts["png: refused"] == len([n for n in range(200) if n % 21 == 5])
    assert sum(n for name, n in counts.items() if name.endswith("accepted")) > 20


@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 2}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_half_a_jpeg_with_an_end_marker(mode: str, options: dict) -> None:
    content = encoded(PICTURE.convert(mode), "JPEG", **options)
    said = _refusal(content[: len(content) // 2] + b"\xff\xd9")
    assert said.startswith("damaged: Corrupt JPEG data: premature end of data segment")


def test_a_jpeg_that_claims_more_rows() -> None:
    content = bytearray(encoded(PICTURE, "JPEG"))
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 7] = struct.pack(">H", 160)
    assert _refusal(bytes(content)).startswith("damaged: Corrupt JPEG data: premature end")


@pytest.mark.parametrize("chunk", [b"IDAT", b"IEND", b"tEXt"])
def test_a_wrong_checksum_in_a_png(chunk: bytes) -> None:
    content = encoded(PICTURE, "PNG")
    text = b"tEXta\0b"
    text = struct.pack(">I", 3) + text + struct.pack(">I", zlib.crc32(text))
    whole = content[:33] + text + content[33:]
    decode_strictly(whole, 0, grey=False, needed=(8, 8))
    broken = bytearray(whole)
    start = broken.index(chunk)
    (length,) = struct.unpack_from(">I", broken, start - 4)
    broken[start + 4 + length] ^= 1
    expected = f"damaged: wrong checksum in the PNG chunk {chunk.decode()}"
    assert _refusal(bytes(broken)) == expected
    assert _refusal(whole[:-12]) == "truncated: the file ends before the image does"


def test_sides_that_no_image_has() -> None:
    content = bytearray(encoded(PICTURE, "BMP"))
    content[18:22] = struct.pack("<i", -72)
    with pytest.raises(UnusableImageError, match=r"^damaged: a header of 4294967224 x 80 px$"):
        verify(bytes(content), 2**62)


def test_notes_in_a_deep_png_reach_no_console() -> None:
    """libpng has something to say of many a colour profile; the pixels are sound."""
    pixels = np.random.default_rng(0).integers(0, 2**16, (9, 8, 3)).astype(np.uint16)
    content = cv2.imencode(".png", pixels)[1].tobytes()
    profile = b"iCCPabc\0\0" + zlib.compress(b"junk")
    chunk = struct.pack(">I", len(profile) - 4) + profile + struct.pack(">I", zlib.crc32(profile))
    noted = content[:33] + chunk + content[33:]
    with console() as said:
        found = decode(noted, 0, grey=False, needed=(8, 8))
    assert said == []
    assert np.array_equal(found, pixels[..., ::-1])


def test_threads_hear_only_themselves() -> None:
    """Each decodes sound and broken images in turn, while the others do."""
    sound = encoded(PICTURE, "JPEG")
    broken = sound[: len(sound) // 2] + b"\xff\xd9"
    wrong: list[object] = []

    def work(first: int) -> None:
        for turn in range(60):
            damaged = (turn + first) % 3 == 0
            try:
                verify(broken if damaged else sound, 10**6)
                refused = False
            except UnusableImageError:
                refused = True
            if refused != damaged:
                wrong.append((first, turn))

    with console() as said:
        threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (wrong, said) == ([], [])


def test_an_error_gives_the_console_back() -> None:
    def fail() -> None:
        raise KeyError("x")

    with console() as said:
        with pytest.raises(KeyError):
            heard(fail)
        os.write(2, b"here\n")
    assert said == ["here"]


def test_what_would_be_said_in_pack_is_said_by_index() -> None:
    content = bytearray(encoded(PICTURE, "JPEG"))
    content[content.index(b"JFIF") + 5] = 9
    expected = "damaged: Warning: unknown JFIF revision number 9.01; save the image again"
    assert _refusal(bytes(content)) == expected


def test_a_picture_is_decoded_as_pack_does() -> None:
    for kind in ("JPEG", "PNG", "GIF", "WEBP"):
        content = encoded(PICTURE, kind)
        loosely = decode(content, 9, grey=False, needed=(8, 8))
        assert np.array_equal(decode_strictly(content, 9, grey=False, needed=(8, 8)), loosely)
    assert Image.fromarray(loosely).size == (120, 80)
