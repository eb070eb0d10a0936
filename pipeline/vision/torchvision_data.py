"""torchvision's classification data sets by name, downloaded and checked by torchvision."""

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.errors import PipelineError, did_you_mean
from pipeline.vision._torchvision import import_torchvision

_TIMEOUT_S = 60.0  # without an answer

# Given split -> arguments of the data set's constructor.
_Parts = Mapping[str | None, Mapping[str, Any]]

_TRAIN_FLAG: _Parts = {"train": {"train": True}, "test": {"train": False}}
_TRAIN_TEST: _Parts = {"train": {"split": "train"}, "test": {"split": "test"}}
_TRAIN_VAL: _Parts = {"train": {"split": "train"}, "val": {"split": "val"}}
_ALL_THREE: _Parts = {split: {"split": split} for split in ("train", "val", "test")}
_WHOLE: _Parts = {None: {}}

DATA_SETS: dict[str, _Parts] = {
    "CIFAR10": _TRAIN_FLAG,
    "CIFAR100": _TRAIN_FLAG,
    "Caltech101": _WHOLE,
    "Caltech256": _WHOLE,
    "Country211": {
        "train": {"split": "train"},
        "val": {"split": "valid"},
        "test": {"split": "test"},
    },
    "DTD": _ALL_THREE,
    "EMNIST": {
        "train": {"split": "balanced", "train": True},
        "test": {"split": "balanced", "train": False},
    },
    "EuroSAT": _WHOLE,
    "FGVCAircraft": _ALL_THREE,
    "FashionMNIST": _TRAIN_FLAG,
    "Flowers102": _ALL_THREE,
    "Food101": _TRAIN_TEST,
    "GTSRB": _TRAIN_TEST,
    "Imagenette": _TRAIN_VAL,
    "KMNIST": _TRAIN_FLAG,
    "MNIST": _TRAIN_FLAG,
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
    "QMNIST": _TRAIN_FLAG,
    "RenderedSST2": _ALL_THREE,
    "SEMEION": _WHOLE,
    "STL10": _TRAIN_TEST,
    "SVHN": _TRAIN_TEST,
    "USPS": _TRAIN_FLAG,
}


@dataclass(frozen=True)
class Part:
    """One given split of a data set, or the whole.

    Attributes:
        split: 'train', 'val', 'test', or None where the data set gives none.
        classes: names in label order.
        labels: class number of each image.
        picture: returns the image of a number.
    """

    split: str | None
    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    picture: Callable[[int], Image.Image]


def fetch(name: str, downloads: Path) -> list[Part]:
    """Download a data set unless it is there, check its sums, and open it.

    Args:
        name: as in torchvision.datasets.
        downloads: folder that keeps the archives.

    Raises:
        PipelineError: an unknown name, or the download failed.
    """
    if name not in DATA_SETS:
        raise PipelineError(
            f"sample.source is {name}, which is neither digits, parcels nor a torchvision data set"
            f" for classification{did_you_mean(name, ('digits', 'parcels', *DATA_SETS))} (valid:"
            " digits, parcels,"
            f" {', '.join(sorted(DATA_SETS))})"
        )
    build = getattr(import_torchvision().datasets, name)
    parts = []
    for split, arguments in DATA_SETS[name].items():
        try:
            with _socket_timeout():
                part = build(root=str(downloads / name), download=True, **arguments)
        except (OSError, HTTPException, RuntimeError) as error:
            raise PipelineError(
                f"cannot download {name}: {error}; check the network, remove {downloads / name}"
                " and try again, or set sample.source to digits or parcels"
            ) from error
        parts.append(_open_part(part, split))
    return parts


def source_text(name: str) -> str:
    """Say where the images come from; torchvision knows no licences."""
    return (
        f"# Source of these images\n\n{name}, downloaded by torchvision:"
        f" https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.{name}.html\n\n"
        "Licence: that of its authors, which torchvision does not state; see their page before"
        " you pass the images on.\n"
    )


def _open_part(data_set: Any, split: str | None) -> Part:
    """Find labels and class names, which every data set of torchvision calls otherwise."""
    labels = _first(data_set, "targets", "labels", "_labels", "y")
    if labels is None:
        labels = [data_set[index][1] for index in range(len(data_set))]
    numbers = np.asarray(labels, np.int64)
    if numbers.ndim == 2:  # QMNIST keeps the writer beside the digit
        numbers = numbers[:, 0]
    names = _first(data_set, "classes", "categories")
    if names is None:
        names = range(int(numbers.max()) + 1)
    # Imagenette has several names for a class.
    classes = tuple(str(n[0] if isinstance(n, tuple) else n) for n in names)
    return Part(split, classes, numbers, lambda index: data_set[index][0])


def _first(data_set: Any, *names: str) -> Any:
    return next((getattr(data_set, name) for name in names if hasattr(data_set, name)), None)


@contextmanager
def _socket_timeout() -> Iterator[None]:
    """Give up on a server that does not answer; torchvision would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
