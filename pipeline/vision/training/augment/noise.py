"""Gaussian noise from one seed per image.

A hash of seed and pixel number stands in for a generator's state (Salmon et al. 2011): all
images at once, the same on every device up to rounding, whichever of them a worker has.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.vision.training.augment.transform import Draws, Transform


@dataclass(frozen=True)
class Noise(Transform):
    """Independent normal noise in each value, of standard deviation `std`."""

    std: float

    def draw(self, count: int, rng: np.random.Generator) -> Draws:
        """Draw a seed per image, int32."""
        return {"seed": rng.integers(-(2**31), 2**31, count, np.int32)}

    def apply(self, images: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """Add the noise of each image's seed."""
        noise = normal(draws["seed"], math.prod(images.shape[1:]), self.std)
        return (images + noise.view(images.shape)).clamp_(0.0, 1.0)


def normal(seeds: Tensor, count: int, std: float) -> Tensor:
    """Return n x count values of mean 0, a row per seed, up to 4.9 standard deviations long.

    Two values come from 32 bits: 16 say how far, 16 in which direction (Box and Muller 1958).

    Args:
        seeds: n, int32.
        count: values per seed.
        std: standard deviation.
    """
    pairs = -(-count // 2)
    numbers = torch.arange(pairs, dtype=torch.int32, device=seeds.device)
    bits = _scramble(seeds[:, None] ^ _scramble(numbers))
    uniform = (bits & 0xFFFF).float().add_(0.5).mul_(2.0**-16)
    radius = uniform.log_().mul_(-2.0 * std**2).sqrt_()
    angle = (bits >> 16).float().mul_(math.pi / 2**15)
    values = torch.empty(len(seeds), 2, pairs, device=seeds.device)
    torch.mul(radius, angle.cos(), out=values[:, 0])
    torch.mul(radius, angle.sin_(), out=values[:, 1])
    return values.flatten(1)[:, :count]


def _scramble(bits: Tensor) -> Tensor:
    """Return int32 in which every bit depends on every bit: MurmurHash3's end (Appleby 2011)."""
    # A product that overflows wraps; a shift to the right repeats the sign, hence the masks.
    bits = (bits ^ ((bits >> 16) & 0xFFFF)).mul_(0x85EBCA6B - 2**32)
    bits = (bits ^ ((bits >> 13) & 0x7FFFF)).mul_(0xC2B2AE35 - 2**32)
    return bits ^ ((bits >> 16) & 0xFFFF)
