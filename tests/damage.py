"""Images of all formats, damaged at random, through index, split and pack.

    python tests/damage.py --images 2000

Each damaged image must be listed by index with its name, or decode in pack. Nothing but Convoy's
own lines may reach the console, and no damage that a format shows may be accepted.
"""

import argparse
import io
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.params import load_params
from pipeline.stages import index, pack, split

PARAMS = Path(__file__).parents[1] / "params.yaml"
SOUND = 40  # images of each class, so that it has some in every split

Rng = np.random.Generator
BARS = ("img", "pair")  # units of progress bars, which may be drawn


class Damaged(NamedTuple):
    """One damaged image: what it was, how it was damaged, and what is left."""

    kind: str
    whole: bytes
    how: str
    content: bytes


def picture(rng: Rng) -> Image.Image:
    """A soft coloured picture of some 30 to 90 px."""
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    width, height = rng.integers(30, 90, 2).tolist()
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def _deep(suffix: str) -> Callable[[Image.Image], bytes]:
    return lambda p: cv2.imencode(suffix, np.asarray(p).astype(np.uint16) * 257)[1].tobytes()


WRITERS: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": lambda p: encoded(p, "JPEG"),
    "jpeg, progressive": lambda p: encoded(p, "JPEG", progressive=True),
    "jpeg, grey": lambda p: encoded(p.convert("L"), "JPEG", quality=60),
    "jpeg, restarts": lambda p: encoded(p, "JPEG", restart_marker_blocks=2),
    "jpeg, cmyk": lambda p: encoded(p.convert("CMYK"), "JPEG"),
    "png": lambda p: encoded(p, "PNG"),
    "png, palette": lambda p: encoded(p.convert("P"), "PNG"),
    "png, alpha": lambda p: encoded(p.convert("RGBA"), "PNG"),
    "png, 16 bits": _deep(".png"),
    "tiff": lambda p: encoded(p, "TIFF"),
    "tiff, lzw": lambda p: encoded(p, "TIFF", compression="tiff_lzw"),
    "tiff, deflate": lambda p: encoded(p, "TIFF", compression="tiff_adobe_deflate"),
    "tiff, jpeg": lambda p: encoded(p, "TIFF", compression="jpeg"),
    "tiff, 16 bits": _deep(".tif"),
    "bmp": lambda p: encoded(p, "BMP"),
    "bmp, palette": lambda p: encoded(p.convert("P"), "BMP"),
    "gif": lambda p: encoded(p.convert("P"), "GIF"),
    "ppm": lambda p: encoded(p, "PPM"),
    "webp": lambda p: encoded(p, "WEBP"),
    "webp, lossless": lambda p: encoded(p, "WEBP", lossless=True),
    "jpeg 2000": lambda p: encoded(p, "JPEG2000"),
}


def _flip(content: bytearray, rng: Rng) -> None:
    for _ in range(rng.integers(1, 4)):
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)


def _header(content: bytearray, rng: Rng) -> None:
    content[rng.integers(min(64, len(content)))] = rng.integers(256)


def _cut(content: bytearray, rng: Rng) -> None:
    del content[rng.integers(1, len(content)) :]


def _cut_and_end(content: bytearray, rng: Rng) -> None:
    end = bytes(content[-12:])
    _cut(content, rng)
    content += end if content.startswith(b"\x89PNG") else b"\xff\xd9"


def _remove(content: bytearray, rng: Rng) -> None:
    start = rng.integers(len(content))
    del content[start : start + rng.integers(1, 40)]


def _insert(content: bytearray, rng: Rng) -> None:
    start = rng.integers(len(content))
    content[start:start] = rng.bytes(rng.integers(1, 40))


def _zero(content: bytearray, rng: Rng) -> None:
    start = rng.integers(len(content))
    rest = len(content[start : start + 30])
    content[start : start + rest] = bytes(rest)


def _size(content: bytearray, rng: Rng) -> None:
    """Claim other sides: more rows than there are, none, or fewer than none."""
    at = {b"\x89P": (16, 8), b"BM": (18, 8), b"GI": (6, 4)}.get(bytes(content[:2]))
    frame = next((content.find(m) for m in (b"\xff\xc0", b"\xff\xc2") if m in content), None)
    if at is None and content.startswith(b"\xff\xd8") and frame is not None:
        at = (frame + 5, 4)
    start, length = at or (0, 8)
    sides = np.array(rng.choice([0, 1, 50, 200, -72, 70000], 2), "<i4").tobytes()
    content[start : start + length] = sides[:length] if rng.random() < 0.5 else sides[::-1][:length]


DAMAGES = (_flip, _header, _cut, _cut_and_end, _remove, _insert, _zero, _size)


def damaged(seed: int) -> Damaged:
    rng = np.random.default_rng(seed)
    kind = list(WRITERS)[seed % len(WRITERS)]
    whole = WRITERS[kind](picture(rng))
    damage = DAMAGES[rng.integers(len(DAMAGES))]
    content = bytearray(whole)
    damage(content, rng)
    return Damaged(kind, whole, damage.__name__.strip("_"), bytes(content))


@contextmanager
def console() -> Iterator[list[str]]:
    """Collect what reaches file descriptor 2 during the block."""
    said: list[str] = []
    with tempfile.TemporaryFile() as file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            said += file.read().decode(errors="replace").splitlines()


def shows_damage(image: Damaged) -> str | None:
    """Say, by other means than Convoy's, what damage an image that was accepted shows."""
    if image.content.startswith(b"\x89PNG"):
        try:
            with Image.open(io.BytesIO(image.content)) as opened:
                opened.verify()  # Pillow compares all checksums here, and only here
        except Exception as error:
            return f"{error!r}"
    if image.content.startswith(b"\xff\xd8"):
        with console() as said:
            cv2.imdecode(np.frombuffer(image.content, np.uint8), cv2.IMREAD_COLOR)
        if "JPEG" in " ".join(said):
            return " ".join(said)
    if image.how == "cut":
        with Image.open(io.BytesIO(image.content)) as a, Image.open(io.BytesIO(image.whole)) as b:
            same = np.array_equal(np.asarray(a.convert("RGB")), np.asarray(b.convert("RGB")))
        return None if same else "pixels are missing"
    return None


def fuzz(count: int, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """Damage images, index, split and pack them in this folder.

    Returns:
        How many were refused and accepted of each kind, and all that went wrong.
    """
    images = {}
    for number in range(count):
        image = damaged(1_000_000 * seed + number)
        images[f"{'ab'[number % 2]}/{number:05d}"] = image
    for label in "ab":
        Path("in", label).mkdir(parents=True)
        for number in range(SOUND):
            rng = np.random.default_rng([seed, number, ord(label)])
            Path("in", label, f"sound{number}").write_bytes(encoded(picture(rng), "PNG"))
    for path, image in images.items():
        Path("in", path).write_bytes(image.content)
    wrong: list[str] = []
    counts: Counter[str] = Counter()
    params = load_params(PARAMS)
    changed = {"data": {"root": "in"}, "index": {"max_bad_fraction": 1.0}}
    updates = {k: getattr(params, k).model_copy(update=v) for k, v in changed.items()}
    params = params.model_copy(update=updates)
    with console() as said:
        for stage in (index, split, pack):
            try:
                stage.run(params)
            except Exception as error:
                known = isinstance(error, PipelineError)
                wrong.append(f"{stage.__name__}{'' if known else ' traceback'}: {error!r}")
                break
    lines = (line for text in said for line in text.split("\r") if line.strip())
    wrong += [f"console: {line}" for line in lines if not any(unit in line for unit in BARS)]
    columns = pq.read_table("data/index.parquet", columns=["path", "problem"]).to_pydict()
    problems = dict(zip(columns["path"], columns["problem"], strict=True))
    for path, image in images.items():
        problem = problems[path]
        counts[f"{image.kind}: {'accepted' if problem is None else 'refused'}"] += 1
        if problem is None and (damage := shows_damage(image)):
            wrong.append(f"silent: {path}, {image.kind}, {image.how}: {damage}")
    return counts, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        counts, wrong = fuzz(arguments.images, arguments.seed)
    for name, number in sorted(counts.items()):
        print(f"{number:5} {name}")
    print(*wrong, sep="\n")
    print(f"{arguments.images} damaged images, {len(wrong)} findings")


if __name__ == "__main__":
    main()
