"""Thumbnails of many images as a few large pictures, in a given number of bytes."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.evaluation.plots.levels import eight_bits
from pipeline.progress import progress_bar

# n x height x width x channels, uint8 or uint16.
Pixels = npt.NDArray[Any]
# Longer side in px, and quality of WebP, the best first. Below the last nothing can be recognised.
_LADDER = ((64, 80), (64, 60), (48, 60), (48, 40), (32, 60), (32, 40), (24, 50), (24, 30))
# Sides of a sheet, px: a browser decodes only the sheets that it shows, each in some 20 ms.
_SHEET = 1024
_TRIED = 512  # images, by which the bytes of all are estimated
_MARGIN = 0.97  # of the budget that an estimate may take


@dataclass(frozen=True)
class Thumbnails:
    """Sheets of thumbnails, row by row from the upper left corner; each begins after the last.

    Attributes:
        sheets: WebP files.
        height: of one thumbnail, px.
        width: likewise.
        columns: thumbnails in a row of a sheet.
        per_sheet: thumbnails in a full sheet.
        numbers: n; the place of each image among all thumbnails, or -1 where it has none.
    """

    sheets: list[bytes]
    height: int
    width: int
    columns: int
    per_sheet: int
    numbers: npt.NDArray[np.int32]


def make_thumbnails(
    gather: Callable[[npt.NDArray[np.intp]], Pixels],
    order: npt.NDArray[np.intp],
    priority: npt.NDArray[np.intp],
    budget: int,
) -> Thumbnails:
    """Make the largest and best thumbnails that fit; of too many images, only of the first ones.

    No thumbnail is larger than its image.

    Args:
        gather: returns the images of some rows, all of one shape.
        order: n rows, in the order in which thumbnails are laid out. Those that are looked at
            together belong together.
        priority: the same rows; where not all fit, the first ones have a thumbnail.
        budget: bytes of all sheets together.
    """
    if not len(order):
        return Thumbnails([], 1, 1, 1, 1, np.empty(0, np.int32))
    tried = gather(np.sort(priority[:_TRIED]))
    for longest, quality in _LADDER:
        each = _bytes_each(tried, longest, quality)
        if each * len(order) <= _MARGIN * budget:
            break
    room = min(len(order), int(_MARGIN * budget / each))
    while True:  # the estimate may have been too low
        chosen = order[np.isin(order, priority[:room])]
        made = _lay_out(gather, chosen, len(order), longest, quality)
        if sum(map(len, made.sheets)) <= budget or not room:
            return made
        room = int(0.9 * room)


def _bytes_each(images: Pixels, longest: int, quality: int) -> float:
    tiles = np.stack([_thumbnail(image, longest) for image in images])
    columns, per_sheet = _grid(*tiles.shape[1:3])
    parts = [tiles[start : start + per_sheet] for start in range(0, len(tiles), per_sheet)]
    return sum(len(_encode(part, columns, quality)) for part in parts) / len(tiles)


def _lay_out(
    gather: Callable[[npt.NDArray[np.intp]], Pixels],
    rows: npt.NDArray[np.intp],
    images: int,
    longest: int,
    quality: int,
) -> Thumbnails:
    height, width = _thumbnail(gather(rows[:1])[0], longest).shape[:2] if len(rows) else (1, 1)
    columns, per_sheet = _grid(height, width)
    with progress_bar(len(rows), "thumbnails", "image") as bar:

        def tiles(part: npt.NDArray[np.intp]) -> Iterator[npt.NDArray[np.uint8]]:
            for start in range(0, len(part), 64):  # images may be large
                for image in gather(part[start : start + 64]):
                    yield _thumbnail(image, longest)
                    bar.update()

        sheets = [
            _encode(np.stack(list(tiles(rows[start : start + per_sheet]))), columns, quality)
            for start in range(0, len(rows), per_sheet)
        ]
    numbers = np.full(images, -1, np.int32)
    numbers[rows] = np.arange(len(rows), dtype=np.int32)
    return Thumbnails(sheets, height, width, columns, per_sheet, numbers)


def _grid(height: int, width: int) -> tuple[int, int]:
    """Return how many thumbnails a row of a sheet holds, and how many a sheet."""
    columns, rows = max(_SHEET // width, 1), max(_SHEET // height, 1)
    return columns, columns * rows


def _thumbnail(image: Pixels, longest: int) -> npt.NDArray[np.uint8]:
    """Return height x width x 3, from black to white."""
    scale = min(longest / max(image.shape[:2]), 1.0)
    height, width = (max(round(side * scale), 1) for side in image.shape[:2])
    small = cv2.resize(eight_bits(image), (width, height), interpolation=cv2.INTER_AREA)
    return np.broadcast_to(small.reshape(height, width, -1), (height, width, 3))


def _encode(tiles: npt.NDArray[np.uint8], columns: int, quality: int) -> bytes:
    """Return a WebP file of n x height x width x 3 thumbnails, grey after the last."""
    n, height, width, _ = tiles.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    padded = np.full((rows * columns, height, width, 3), 128, np.uint8)
    padded[:n] = tiles
    sheet = padded.reshape(rows, columns, height, width, 3).swapaxes(1, 2)
    buffer = io.BytesIO()
    picture = Image.fromarray(sheet.reshape(rows * height, columns * width, 3))
    picture.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()
