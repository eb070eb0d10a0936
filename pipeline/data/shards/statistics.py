"""Figures over a whole packed set, in one pass and flat memory."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import partial
from math import sqrt
from pathlib import Path

import numpy as np

from pipeline.data.shards.shards import ImageSet
from pipeline.parallel import map_chunks


def channel_statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of pixels in [0, 1].

    Whole numbers are added up, in all cores, so that the result is the same on every machine. A
    channel that never varies gets the deviation 1, so that dividing by it is harmless.
    """
    height, width, channels = images.info.shape
    full_scale, count = int(np.iinfo(images.info.dtype).max), max(len(images) * height * width, 1)
    pieces = map_chunks(
        partial(_add_up, images=images),
        range(len(images)),
        chunk=images.info.rows_per_batch,
        label="mean and deviation",
        threads=True,
    )
    sums = [(0, 0)] * channels
    for piece in pieces:
        sums = [(a + x, b + y) for (a, b), (x, y) in zip(sums, piece, strict=True)]
    mean = [total / count / full_scale for total, _ in sums]
    deviation = [sqrt(count * square - total**2) / count / full_scale for total, square in sums]
    return (
        tuple(round(value, 6) for value in mean),
        tuple(round(value, 6) if value >= 1e-6 else 1.0 for value in deviation),
    )


def _add_up(rows: Sequence[int], images: ImageSet) -> list[tuple[int, int]]:
    """Return the sum of the values and that of their squares, of each channel."""
    pixels = images.gather(np.array(rows))
    return [
        (
            int(channel.sum(dtype=np.uint64)),
            int(np.square(channel, dtype=np.uint32).sum(dtype=np.uint64)),
        )
        for channel in np.moveaxis(pixels, -1, 0)
    ]


def images_digest(folders: Iterable[Path]) -> str:
    """Hash packed images: sha256, hex."""
    return files_digest(folders, "*.arrow")


def files_digest(folders: Iterable[Path], pattern: str) -> str:
    """Hash the names and bytes of the files below `folders`: sha256, hex."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob(pattern)):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256")
            digest.update(f"{path.relative_to(folder).as_posix()} ".encode() + content.digest())
    return digest.hexdigest()
