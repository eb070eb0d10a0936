"""Figures over a whole packed set, in one pass and flat memory."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.data.shards.shards import ImageSet
from pipeline.parallel import map_chunks

_MOST_COUNTED = 2**24


def channel_statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of pixels in [0, 1].

    Whole numbers are counted, in all cores, so that the result is the same on every machine. A
    channel that never varies gets the deviation 1, so that dividing by it is harmless.
    """
    full_scale, channels = int(np.iinfo(images.info.dtype).max), images.info.shape[2]
    counts = np.zeros((channels, full_scale + 1), np.int64)
    pieces = map_chunks(
        partial(_count_values, images=images),
        range(len(images)),
        chunk=images.info.rows_per_batch,
        label="mean and deviation",
        threads=True,
    )
    for piece in pieces:
        counts += piece
    levels = np.arange(full_scale + 1) / full_scale
    total = np.maximum(counts.sum(axis=1), 1)
    mean = counts @ levels / total
    deviation = np.sqrt((counts * np.square(levels - mean[:, None])).sum(axis=1) / total)
    deviation[deviation < 1e-6] = 1.0
    # Six digits: more would differ between machines in the order of additions.
    return tuple(mean.round(6).tolist()), tuple(deviation.round(6).tolist())


def _count_values(rows: Sequence[int], images: ImageSet) -> npt.NDArray[np.int64]:
    """Count each value of each channel: channels x values."""
    pixels, (height, width, channels) = images.gather(np.array(rows)), images.info.shape
    lines = pixels.reshape(len(rows) * height, width, channels)
    values = int(np.iinfo(images.info.dtype).max) + 1
    # OpenCV counts in float32, which is exact up to 2^24 pixels.
    height_at_once = max(_MOST_COUNTED // width, 1)
    counts = np.zeros((channels, values), np.int64)
    for start in range(0, len(lines), height_at_once):
        part = np.ascontiguousarray(lines[start : start + height_at_once])
        for channel in range(channels):
            found = cv2.calcHist([part], [channel], None, [values], [0, values])
            counts[channel] += found.ravel().astype(np.int64)
    return counts


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
