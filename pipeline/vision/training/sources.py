"""Where a training's inputs lie, and how rows of them become what the network takes.

Three kinds with one interface: pixels in the memory-mapped shards, gathered on the host; pixels
kept on the device, when it has memory of its own and they fit; and features of a frozen
extractor, computed once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.data.shards.shards import ImageSet, SetInfo
from pipeline.vision.bundle.inputs import Normalization
from pipeline.vision.training.augment import Augment

Rows = npt.NDArray[np.int64]
# Of the device's free memory, the share that images may take; the rest is for the training.
_RESIDENT_SHARE = 0.4


class Source(Protocol):
    """Rows of inputs with their labels.

    Attributes:
        labels: n, int64.
    """

    labels: Rows

    def fetch(self, rows: Rows) -> Tensor:
        """Return the raw inputs at `rows`. Called from a thread; leaves the device alone."""

    def prepare(self, raw: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """Turn raw inputs, moved to the device, into what the network takes."""


@dataclass(frozen=True)
class PixelTransform:
    """From the integers of packed images to the network's input: augmented, then normalised.

    Attributes:
        normalization: on the device that trains.
        full_scale: the integer that stands for 1.
        augment: None without.
        memory_format: of the network's input.
    """

    normalization: Normalization
    full_scale: float
    augment: Augment | None
    memory_format: torch.memory_format

    @classmethod
    def of(
        cls,
        info: SetInfo,
        normalization: Normalization,
        augment: Augment | None = None,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> "PixelTransform":
        """Transform the images of sets that `info` describes."""
        return cls(normalization, float(np.iinfo(info.dtype).max), augment, memory_format)

    def __call__(self, raw: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """Map n x height x width x channels integers to n x channels x height x width floats.

        Args:
            raw: on the device.
            draws: of the augmentation, see `Augment.draw`.
        """
        mean, std = self.normalization.mean, self.normalization.std
        images = raw.permute(0, 3, 1, 2).to(torch.float32)
        if self.augment is not None:
            images = self.augment.apply(images.div_(self.full_scale), draws)
            images = (images - mean).div_(std)
        else:  # the same in one pass less
            images.sub_(mean * self.full_scale).div_(std * self.full_scale)
        return images.contiguous(memory_format=self.memory_format)


class MappedPixels:
    """Pixels in memory-mapped shards: a batch is copied out of the map, nothing is decoded."""

    def __init__(self, images: ImageSet, transform: PixelTransform, pin: bool) -> None:
        self.labels = images.labels.astype(np.int64)
        self._images, self._transform, self._pin = images, transform, pin

    def fetch(self, rows: Rows) -> Tensor:
        """Copy the images at `rows`: n x height x width x channels."""
        raw = torch.from_numpy(_torch_integers(self._images.gather(rows)))
        return raw.pin_memory() if self._pin else raw

    def prepare(self, raw: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """Augment and normalise: n x channels x height x width."""
        return self._transform(raw, draws)


class ResidentPixels:
    """Pixels on the device: only row numbers travel there."""

    def __init__(self, images: ImageSet, transform: PixelTransform, device: torch.device) -> None:
        self.labels, self._transform = images.labels.astype(np.int64), transform
        size = (len(images), *images.info.shape)
        self._pixels = torch.empty(size, dtype=_torch_dtype(images), device=device)
        filled = 0
        for block in images.batches(4096):
            rows = torch.from_numpy(_torch_integers(block))
            self._pixels[filled : filled + len(rows)] = rows
            filled += len(rows)
        self._pin = device.type == "cuda"

    def fetch(self, rows: Rows) -> Tensor:
        """Return the row numbers."""
        numbers = torch.from_numpy(rows)
        return numbers.pin_memory() if self._pin else numbers

    def prepare(self, raw: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """Gather, augment and normalise: n x channels x height x width."""
        return self._transform(self._pixels.index_select(0, raw), draws)


class Features:
    """What an extractor makes of each image.

    Attributes:
        values: n x d, on the device.
        labels: n.
    """

    def __init__(self, values: Tensor, labels: Rows) -> None:
        self.labels, self.values = labels, values

    def fetch(self, rows: Rows) -> Tensor:
        """Return the row numbers."""
        return torch.from_numpy(rows)

    def prepare(self, raw: Tensor, draws: Mapping[str, Tensor]) -> Tensor:  # noqa: ARG002
        """Gather: n x d."""
        return self.values.index_select(0, raw)


def open_pixels(
    images: ImageSet, transform: PixelTransform, device: torch.device
) -> MappedPixels | ResidentPixels:
    """Keep the pixels on the device if it has its own memory and they fit."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        needed = len(images) * int(np.prod(images.info.shape)) * _torch_dtype(images).itemsize
        if needed < _RESIDENT_SHARE * free:
            return ResidentPixels(images, transform, device)
    return MappedPixels(images, transform, pin=device.type == "cuda")


def _torch_dtype(images: ImageSet) -> torch.dtype:
    """Return the type of what `_torch_integers` makes of the pixels."""
    return torch.uint8 if images.info.dtype == "uint8" else torch.int32


def _torch_integers(images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Widen uint16, for which torch lacks most operations; int32 holds every value."""
    return images.astype(np.int32) if images.dtype == np.uint16 else images
