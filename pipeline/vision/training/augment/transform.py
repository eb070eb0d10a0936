"""What every augmentation can do."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

# One row per image; every array has its own dtype.
Draws = dict[str, npt.NDArray[Any]]


class Transform(Protocol):
    """One augmentation of the list in params.yaml."""

    def draw(self, count: int, rng: np.random.Generator) -> Draws:
        """Draw what is random for `count` images."""

    def apply(self, images: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """Return augmented images, in [0, 1] as the given ones, which are left as they are.

        Neither reads a value back from the device nor makes a shape depend on one, so that the
        host never waits.

        Args:
            images: n x channels x height x width, float32 in [0, 1].
            draws: as drawn, n rows each, on the device of the images.
        """
