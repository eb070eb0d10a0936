"""Rectangles painted over: random erasing (Zhong et al. 2020) and cutout."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.vision.training.augment.transform import Draws, Transform

# Height by width of the rectangle, from this to its inverse, as in the paper.
_FLATTEST = 0.3


@dataclass(frozen=True)
class Erase(Transform):
    """A rectangle painted over with the image's mean, in a share `p` of the images.

    Attributes:
        p: in [0, 1].
        area: smallest and largest share of the image, up to whole pixels.
        height: of the images, pixels.
        width: of the images, pixels.
    """

    p: float
    area: tuple[float, float]
    height: int
    width: int

    def draw(self, count: int, rng: np.random.Generator) -> Draws:
        """Draw each image's rectangle, n x (top, left, bottom, right); empty where none is."""
        chosen, share, flatness, top, left = rng.random((5, count))
        low, high = self.area
        pixels = (low + (high - low) * share) * (self.height * self.width)
        # The paper draws again what does not fit; here it is made as long as the image.
        rows = np.sqrt(pixels) * np.exp((flatness - 0.5) * -math.log(_FLATTEST))
        rows = np.rint(np.clip(rows, np.maximum(pixels / self.width, 1.0), self.height))
        columns = np.clip(np.rint(pixels / rows), 1, self.width)
        top = np.floor(top * (self.height - rows + 1))
        left = np.floor(left * (self.width - columns + 1))
        bottom = top + np.where(chosen < self.p, rows, 0.0)
        box = np.stack([top, left, bottom, left + columns], axis=1)
        return {"box": box.astype(np.int64)}

    def apply(self, images: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """Paint the rectangles, each channel in its mean."""
        return _paint(images, draws["box"])


@dataclass(frozen=True)
class Cutout(Transform):
    """A square painted over with the image's mean (DeVries and Taylor 2017).

    Its middle is anywhere in the image, and what lies beyond the edge is cut off.

    Attributes:
        size: side of the square, pixels.
        height, width: of the images, pixels.
    """

    size: int
    height: int
    width: int

    def draw(self, count: int, rng: np.random.Generator) -> Draws:
        """Draw each image's square, n x (top, left, bottom, right)."""
        sides = np.array([self.height, self.width])
        first = rng.integers(0, sides, (count, 2)) - self.size // 2
        corners = np.concatenate([first, first + self.size], axis=1)
        return {"box": corners.clip(0, np.tile(sides, 2)).astype(np.int64)}

    def apply(self, images: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """Paint the squares, each channel in its mean."""
        return _paint(images, draws["box"])


def _paint(images: Tensor, boxes: Tensor) -> Tensor:
    """Paint n boxes (top, left, bottom, right), each channel in its mean."""
    _, _, height, width = images.shape
    top, left, bottom, right = boxes[:, :, None].unbind(1)
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    upright = (rows >= top) & (rows < bottom)
    lying = (columns >= left) & (columns < right)
    # Weights of 0 and 1 are exact, and three times as fast as a choice by truth values.
    inside = upright[:, None, :, None].float() * lying[:, None, None, :].float()
    return torch.lerp(images, images.mean((2, 3), keepdim=True), inside)
