"""Figures over a whole packed set, in one pass and flat memory."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pipeline.data.shards.shards import ImageSet


def channel_statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of pixels in [0, 1].

    A channel that never varies gets the deviation 1, so that dividing by it is harmless.
    """
    full_scale = float(np.iinfo(images.info.dtype).max)
    channels = images.info.shape[2]
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    for batch in images.batches(images.info.rows_per_batch):
        pixels = batch.reshape(-1, channels).astype(np.float64) / full_scale
        total += pixels.sum(axis=0)
        squares += np.square(pixels).sum(axis=0)
        count += len(pixels)
    mean = total / max(count, 1)
    deviation = np.sqrt(np.maximum(squares / max(count, 1) - np.square(mean), 0))
    deviation[deviation < 1e-6] = 1.0
    # Six digits: more would differ between machines in the order of additions.
    return tuple(mean.round(6).tolist()), tuple(deviation.round(6).tolist())


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
