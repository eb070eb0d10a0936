"""Small packed sets, for tests of what comes after packing."""

import hashlib
from pathlib import Path

import numpy as np

from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.data.shards.shards import ImageSet, SetInfo, ShardWriter
from pipeline.files import write_json


def write_set(
    folder: Path, images: np.ndarray, labels: list[int], classes: tuple[str, ...]
) -> ImageSet:
    """Pack images (n x height x width x channels, uint8) and open them again."""
    height, width, channels = images.shape[1:]
    info = SetInfo(
        classes, Preprocessing(height, width, channels, "stretch", 0, 8), str(images.dtype)
    )
    ids = [hashlib.sha256(image.tobytes()).hexdigest() for image in images]
    with ShardWriter(folder, info, 1024) as writer:
        paths = [f"{classes[label]}/{row}.png" for row, label in enumerate(labels)]
        writer.write(images, labels, ids, [None] * len(images), paths)
    return ImageSet.open(folder)


def bars(count: int, size: int = 16, seed: int = 0) -> tuple[np.ndarray, list[int]]:
    """Draw noisy images of a bright bar: upright (class 0), lying (1) or none (2)."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 60, (count, size, size, 1)).astype(np.uint8)
    labels = [row % 3 for row in range(count)]
    for image, label in zip(images, labels, strict=True):
        place = int(rng.integers(2, size - 3))
        if label == 0:
            image[:, place : place + 2] += 180
        elif label == 1:
            image[place : place + 2] += 180
    return images, labels


BARS = ("upright", "lying", "none")


def write_sets(folder: Path, training: int, validation: int, size: int = 16) -> tuple[Path, Path]:
    """Pack so many bars as `folder`/train and `folder`/val, and return these two."""
    write_set(folder / "train", *bars(training, size), BARS)
    write_set(folder / "val", *bars(validation, size, seed=1), BARS)
    return folder / "train", folder / "val"


def write_tuned(precision: str = "fp32", memory_format: str = "channels_last") -> None:
    """Write, here, what the stage autotune chooses for both trainings."""
    arithmetic = {"precision": precision, "memory_format": memory_format}
    choice = {"question": {"precision": "auto"}, "arithmetic": arithmetic}
    for stage in ("train", "finetune"):
        write_json(Path(f"models/compute/{stage}.json"), choice)
