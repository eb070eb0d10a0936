"""The operations that AutoAugment and TrivialAugment draw from, each image another one.

An image of a batch has a number that says which operation it undergoes, and a value that says how
far. All are computed for whole batches: a choice by number costs less than parting the batch, for
which the host would have to wait for the device. Values are those of the papers' code, where a
pixel has 256 levels.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.vision.training.augment.affine import sample_from
from pipeline.vision.training.augment.color import grey

# Moves, by pixels or degrees.
MOVES = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
# Blends of the image (1) with what lacks a property (0), and beyond.
BLENDS = ("brightness", "color", "contrast", "sharpness")
OPERATIONS = (
    *("identity", *MOVES, *BLENDS),
    *("posterize", "solarize", "auto_contrast", "equalize", "invert"),
)
NUMBER = {name: number for number, name in enumerate(OPERATIONS)}
# In place of what a move brings in from beyond the edge.
_FILL = 0.5
_LEVELS = 256

Values = npt.NDArray[np.float64]


def inverse_moves(
    kinds: npt.NDArray[np.integer], values: Values, shape: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Return where each image's pixels come from, see `sample_from`.

    Args:
        kinds: n operations, by their numbers.
        values: n: slopes of the shears, pixels of the translations, degrees of the rotation,
            counter-clockwise. Of other operations they mean nothing here.
        shape: height and width of the images.

    Returns:
        n x 2 x 3; operations that are no moves leave all pixels where they are.
    """
    height, width = shape

    def of(name: str) -> Values:
        return np.where(kinds == NUMBER[name], values, 0.0)

    turn = np.radians(of("rotate"))
    cos, sin = np.cos(turn), np.sin(turn)
    matrix = np.empty((len(kinds), 2, 3), np.float32)
    # In places from -1 to 1. A shear leaves the first row or column where it is.
    slope_x, slope_y = of("shear_x"), of("shear_y")
    matrix[:, 0, 0], matrix[:, 1, 1] = cos, cos
    matrix[:, 0, 1] = (slope_x - sin) * height / width
    matrix[:, 1, 0] = (slope_y + sin) * width / height
    matrix[:, 0, 2] = -2 * of("translate_x") / width + slope_x * height / width
    matrix[:, 1, 2] = -2 * of("translate_y") / height + slope_y * width / height
    return matrix


def operate(images: Tensor, kinds: Tensor, values: Tensor, inverse: Tensor) -> Tensor:
    """Apply to each image its operation.

    Args:
        images: n x channels x height x width in [0, 1].
        kinds: n, int64: numbers of `OPERATIONS`.
        values: n, float32: the factor of a blend, the bits that posterising leaves, the level from
            which on solarising inverts (0 to 255); moves are in `inverse`.
        inverse: n x 2 x 3, from `inverse_moves`.

    Returns:
        The same shape and range.
    """
    kinds, values = (numbers[:, None, None, None] for numbers in (kinds, values))

    def chosen(*names: str) -> Tensor:
        return torch.isin(
            kinds, torch.tensor([NUMBER[name] for name in names], device=kinds.device)
        )

    moved = sample_from(images - _FILL, inverse, mode="nearest", padding_mode="zeros") + _FILL
    result = torch.where(chosen(*MOVES), moved, images)
    result = torch.where(chosen(*BLENDS), _blended(images, chosen, values), result)
    levels = (images * (_LEVELS - 1)).round_()
    # So many levels become one.
    step = torch.exp2(8 - torch.where(chosen("posterize"), values, 8.0))
    posterized = torch.floor(levels / step).mul_(step).div_(_LEVELS - 1)
    result = torch.where(chosen("posterize"), posterized, result)
    inverted = chosen("invert") | (chosen("solarize") & (levels >= values))
    result = torch.where(inverted, 1 - images, result)
    result = torch.where(chosen("auto_contrast"), _stretched(images), result)
    return torch.where(chosen("equalize"), _equalized(levels), result)


def _blended(images: Tensor, chosen: Callable[..., Tensor], factors: Tensor) -> Tensor:
    """Go from an image that lacks brightness, colour, contrast or sharpness to it, and beyond."""
    greys = images if images.shape[1] == 1 else grey(images)
    without = torch.where(chosen("color"), greys, greys.mean((2, 3), keepdim=True))
    without = torch.where(chosen("brightness"), 0.0, without)
    without = torch.where(chosen("sharpness"), _smoothed(images), without)
    return torch.lerp(without.expand_as(images), images, factors).clamp_(0.0, 1.0)


def _smoothed(images: Tensor) -> Tensor:
    """Return means of 3 x 3 pixels, the middle one five times; pixels of the edge are left."""
    channels = images.shape[1]
    if min(images.shape[2:]) < 3:
        return images
    kernel = torch.ones(3, 3, device=images.device)
    kernel[1, 1] = 5.0
    weights = (kernel / kernel.sum()).expand(channels, 1, 3, 3)
    smoothed = images.clone()
    smoothed[:, :, 1:-1, 1:-1] = functional.conv2d(images, weights, groups=channels)
    return smoothed


def _stretched(images: Tensor) -> Tensor:
    """Stretch each channel to go from 0 to 1; one of a single value is left."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    spread = high - low
    return torch.where(spread > 0, (images - low) / spread.clamp_min(1e-12), images)


def _equalized(levels: Tensor) -> Tensor:
    """Make the levels of each channel as frequent as each other, as Pillow does.

    Args:
        levels: n x channels x height x width, whole numbers from 0 to 255.
    """
    n, channels, height, width = levels.shape
    flat = levels.reshape(n * channels, height * width).long()
    counts = torch.zeros(len(flat), _LEVELS, dtype=torch.long, device=levels.device)
    counts.scatter_add_(1, flat, torch.ones_like(flat))
    # The highest level that occurs does not count.
    last = counts.gather(1, flat.amax(1, keepdim=True))
    step = (height * width - last) // (_LEVELS - 1)
    before = counts.cumsum(1) - counts
    table = ((before + step // 2) // step.clamp_min(1)).clamp_(0, _LEVELS - 1)
    table = torch.where(step > 0, table, torch.arange(_LEVELS, device=levels.device))
    return table.gather(1, flat).view(levels.shape).to(levels.dtype).div_(_LEVELS - 1)
