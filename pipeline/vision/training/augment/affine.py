"""Random turning, moving, scaling and slanting."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.vision.training.augment.transform import Draws, Transform

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Affine(Transform):
    """Slants, scales and turns about the middle, then moves; one bilinear interpolation.

    Beyond its edge the image repeats its border, as with a crop.

    Attributes:
        degrees: turned by up to this, either way.
        translate: moved by up to this share of width and of height, either way.
        scale: smallest and largest factor; half as large is as likely as twice as large.
        shear: upright lines lean by up to this, degrees, either way.
        height: of the images, pixels.
        width: of the images, pixels.
    """

    degrees: float
    translate: float
    scale: tuple[float, float]
    shear: float
    height: int
    width: int

    def draw(self, count: int, rng: np.random.Generator) -> Draws:
        """Draw where each image's pixels come from, n x 2 x 3."""
        low, high = np.log(self.scale)
        turn, right, down, shear = rng.uniform(-1.0, 1.0, (4, count))
        inverse = inverse_affine(
            degrees=turn * self.degrees,
            right=right * self.translate,
            down=down * self.translate,
            scale=np.exp(rng.uniform(low, high, count)),
            shear=shear * self.shear,
            height_by_width=self.height / self.width,
        )
        return {"inverse": inverse}

    def apply(self, images: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """Sample each pixel where it comes from."""
        warped = sample_from(images, draws["inverse"])
        # The four weights of a pixel sum to 1 only up to rounding.
        return warped.clamp_(0.0, 1.0)


def inverse_affine(
    *,
    degrees: Values,
    right: Values,
    down: Values,
    scale: Values,
    shear: Values,
    height_by_width: float,
) -> npt.NDArray[np.float32]:
    """Return the matrices that lead from places in the result back to places in the image.

    Places are (x, y) with the middle at (0, 0) and edges at -1 and 1, x to the right, y down.

    Args:
        degrees: n, counter-clockwise.
        right: n, share of the width.
        down: n, share of the height.
        scale: n, above 1 enlarges.
        shear: n, degrees by which upright lines lean to the right.
        height_by_width: of the image.

    Returns:
        n x 2 x 3.
    """
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    slope = np.tan(np.radians(shear))
    # In pixels: slanting undone after turning undone, after scaling undone.
    matrix = np.empty((len(degrees), 2, 3), np.float32)
    matrix[:, 0, 0] = (cos + slope * sin) / scale
    matrix[:, 0, 1] = (slope * cos - sin) / scale * height_by_width
    matrix[:, 1, 0] = sin / scale / height_by_width
    matrix[:, 1, 1] = cos / scale
    # Before all that, the move is undone; a width and a height are 2 long.
    matrix[:, :, 2] = -2.0 * (matrix[:, :, 0] * right[:, None] + matrix[:, :, 1] * down[:, None])
    return matrix


def sample_from(
    images: Tensor, inverse: Tensor, mode: str = "bilinear", padding_mode: str = "border"
) -> Tensor:
    """Sample each pixel where it comes from.

    Args:
        images: n x channels x height x width.
        inverse: n x 2 x 3: where a place (x, y, 1) of the result comes from; the middle is at
            (0, 0), edges are at -1 and 1.
        mode: between pixels, as `grid_sample` has it.
        padding_mode: beyond the edge, likewise.
    """
    n, _, height, width = images.shape
    # One product with 3 x pixels; torch's affine_grid takes ten times as long as this.
    grid = inverse @ _centres(height, width, images.device)
    return functional.grid_sample(
        images,
        grid.view(n, 2, height, width).permute(0, 2, 3, 1),
        mode=mode,
        padding_mode=padding_mode,
        align_corners=False,
    )


def _centres(height: int, width: int, device: torch.device) -> Tensor:
    """Return x, y and 1 of each pixel's middle, 3 x (height * width)."""
    x = (torch.arange(width, device=device) * 2 + 1) / width - 1
    y = (torch.arange(height, device=device) * 2 + 1) / height - 1
    ones = torch.ones(height, width, device=device)
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width), ones]).flatten(1)
