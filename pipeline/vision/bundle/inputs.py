"""From the integers of prepared images to what a network takes."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def to_unit(images: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Turn n x height x width x channels integers to n x channels x height x width in [0, 1]."""
    full_scale = float(np.iinfo(images.dtype).max)
    # torch lacks most uint16 arithmetic; int32 holds every value.
    whole = images.astype(np.int32) if images.dtype == np.uint16 else images
    # Integers travel to the device: they are the smaller.
    return torch.from_numpy(whole).to(device).permute(0, 3, 1, 2).float().div_(full_scale)


def per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Shape one value per channel to broadcast over n x channels x height x width."""
    return torch.tensor(values, device=device).reshape(1, -1, 1, 1)


@dataclass(frozen=True)
class Normalization:
    """From integers to (pixel - mean) / std, per channel.

    Attributes:
        mean, std: of pixels in [0, 1], on the network's device; 1 x channels x 1 x 1.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def of(
        cls, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
    ) -> "Normalization":
        """Normalise on `device`."""
        return cls(per_channel(mean, device), per_channel(std, device))

    def __call__(self, images: npt.NDArray[Any]) -> Tensor:
        """Turn n x height x width x channels integers to n x channels x height x width floats."""
        return to_unit(images, self.mean.device).sub_(self.mean).div_(self.std)


@dataclass(frozen=True)
class Batch:
    """Images, as they are and as the network takes them.

    Attributes:
        images: n x height x width x channels, uint8 or uint16, prepared.
        normalize: turns such images into the network's input.
    """

    images: npt.NDArray[Any]
    normalize: Normalization

    @cached_property
    def inputs(self) -> Tensor:
        """The images for the network: n x channels x height x width. Not to be written to."""
        return self.normalize(self.images)

    @cached_property
    def digests(self) -> list[bytes]:
        """What identifies the images, whatever batch they are in: SHA-256 of each one's pixels."""
        return [hashlib.sha256(image).digest() for image in np.ascontiguousarray(self.images)]
