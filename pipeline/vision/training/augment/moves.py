"""Flips and crops: each pixel is copied from another place, nothing is interpolated.

A move says, for each row and column of its result, which row and column of its input stands
there. That composes: several moves in succession cost one copy.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.vision.training.augment.transform import Draws, Transform


class Move(Transform):
    """A flip or a crop."""

    @abstractmethod
    def source(
        self, rows: Tensor, columns: Tensor, draws: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return which rows and columns of the input stand at `rows` and `columns` of the result.

        Args:
            rows: 1 or n x any, int64.
            columns: 1 or n x any, int64.
            draws: n rows each.
        """

    def apply(self, images: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """Move alone."""
        return move(images, [(self, draws)])


@dataclass(frozen=True)
class HorizontalFlip(Move):
    """Left and right swapped in a share `p` of the images."""

    p: float
    width: int

    def draw(self, count: int, rng: np.random.Generator) -> Draws:
        """Draw which images are flipped, bool."""
        return {"flipped": rng.random(count) < self.p}

    def source(
        self, rows: Tensor, columns: Tensor, draws: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Count the columns of flipped images from the right."""
        return rows, _reverse(columns, draws["flipped"], self.width)


@dataclass(frozen=True)
class VerticalFlip(Move):
    """Top and bottom swapped in a share `p` of the images."""

    p: float
    height: int

    def draw(self, count: int, rng: np.random.Generator) -> Draws:
        """Draw which images are flipped, bool."""
        return {"flipped": rng.random(count) < self.p}

    def source(
        self, rows: Tensor, columns: Tensor, draws: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Count the rows of flipped images from the bottom."""
        return _reverse(rows, draws["flipped"], self.height), columns


@dataclass(frozen=True)
class Crop(Move):
    """A window of the image's own size, moved by up to `padding` pixels either way.

    Beyond its edge the image repeats its border, as in test-time augmentation: black bars would
    stand out where the background is not black, and a mirror image brings in a second copy of
    what lies there, such as a finger too many on a hand that counts.
    """

    padding: int
    height: int
    width: int

    def draw(self, count: int, rng: np.random.Generator) -> Draws:
        """Draw how far the window moves, pixels to the bottom and to the right."""
        down, right = rng.integers(-self.padding, self.padding + 1, (2, count))
        return {"down": down, "right": right}

    def source(
        self, rows: Tensor, columns: Tensor, draws: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Move, and go no further than the border."""
        return (
            (rows + draws["down"][:, None]).clamp_(0, self.height - 1),
            (columns + draws["right"][:, None]).clamp_(0, self.width - 1),
        )


def move(images: Tensor, moves: Sequence[tuple[Move, Mapping[str, Tensor]]]) -> Tensor:
    """Apply moves in succession, as one copy.

    Args:
        images: n x channels x height x width; a result in channels_last if they are.
        moves: in the order in which they happen, each with its draws.
    """
    if not moves:
        return images
    n, channels, height, width = images.shape
    rows = torch.arange(height, device=images.device)[None]
    columns = torch.arange(width, device=images.device)[None]
    # The last move's result is the result; where it looks is the result of the one before.
    for step, draws in reversed(moves):
        rows, columns = step.source(rows, columns, draws)
    places = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
    if images.is_contiguous():
        chosen = places[:, None].expand(n, channels, height * width)
        return images.flatten(2).gather(2, chosen).view(images.shape)
    # In channels_last each pixel is a row of memory.
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels)
    places = places + torch.arange(0, len(pixels), height * width, device=images.device)[:, None]
    moved = pixels.index_select(0, places.flatten())
    return moved.view(n, height, width, channels).permute(0, 3, 1, 2)


def _reverse(index: Tensor, reversed_rows: Tensor, size: int) -> Tensor:
    """Count from the other end where asked for."""
    return torch.where(reversed_rows[:, None], size - 1 - index, index)
