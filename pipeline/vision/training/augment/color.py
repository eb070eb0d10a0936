"""Random brightness, contrast, saturation and hue, in this order."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.vision.training.augment.transform import Draws, Transform

# What red, green and blue add to the grey that is seen (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Color(Transform):
    """Each property is multiplied by a factor from 1 - x to 1 + x, the hue turned.

    Attributes:
        brightness: x, in [0, 1].
        contrast: x, in [0, 1].
        saturation: x, in [0, 1]; 0 for images with one channel.
        hue: turned by up to this, either way; 0.5 is the opposite colour. 0 with one channel.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float

    def draw(self, count: int, rng: np.random.Generator) -> Draws:
        """Draw factors of brightness, contrast and saturation, and the turn of the hue, n each."""
        spread = np.array([self.brightness, self.contrast, self.saturation, self.hue], np.float32)
        middle = np.array([1.0, 1.0, 1.0, 0.0], np.float32)
        drawn = middle + spread * rng.uniform(-1.0, 1.0, (count, 4)).astype(np.float32)
        return {
            name: drawn[:, column]
            for column, name in enumerate(("brightness", "contrast", "saturation", "hue"))
            if spread[column]
        }

    def apply(self, images: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """Change what was drawn."""
        for name, adjust in _ADJUST.items():
            if name in draws:
                images = adjust(images, draws[name][:, None, None, None])
        return images


def adjust_brightness(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply all values.

    Args:
        images: n x channels x height x width in [0, 1].
        factors: n x 1 x 1 x 1, 1 changes nothing.
    """
    return (images * factors).clamp_(0.0, 1.0)


def adjust_contrast(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply the distance from the image's mean grey; arguments as above."""
    means = images.mean((2, 3), keepdim=True)
    return _blend(images, means if images.shape[1] == 1 else grey(means), factors)


def adjust_saturation(images: Tensor, factors: Tensor) -> Tensor:
    """Multiply the distance from the pixel's own grey; arguments as above, three channels."""
    return _blend(images, grey(images), factors)


def adjust_hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue, with value and chroma (of HSV) left as they are.

    On the hexagon of hues (Smith 1978) a channel is full up to one sixth of the circle from its
    own hue, and empty from two sixths on. Backwards, the distance from red follows from the
    channels, and whether green or blue is larger says on which side.

    Args:
        images: n x 3 x height x width in [0, 1].
        turns: n x 1 x 1 x 1, share of the circle.
    """
    red, green, blue = images.unbind(1)
    highest = torch.maximum(torch.maximum(red, green), blue)
    lowest = torch.minimum(torch.minimum(red, green), blue)
    chroma = highest - lowest
    # In sixths of the circle. Grey has no hue; any will do, for its chroma is 0.
    from_red = (green + blue).sub_(lowest, alpha=2.0).add_(highest).sub_(red)
    from_red.div_(chroma.clamp_min(torch.finfo(images.dtype).eps))
    hue = torch.copysign(from_red, green - blue).add_(turns[:, 0], alpha=6.0)
    from_own = torch.stack([hue, hue - 2.0, hue - 4.0], dim=1)
    from_own.sub_((from_own / 6.0).round_().mul_(6.0)).abs_()
    filled = from_own.neg_().add_(2.0).clamp_(0.0, 1.0)
    return filled.mul_(chroma[:, None]).add_(lowest[:, None]).clamp_(0.0, 1.0)


_ADJUST = {
    "brightness": adjust_brightness,
    "contrast": adjust_contrast,
    "saturation": adjust_saturation,
    "hue": adjust_hue,
}


def grey(images: Tensor) -> Tensor:
    """Return the luminance, n x 1 x height x width of n x 3 x height x width."""
    red, green, blue = images[:, :, None].unbind(1)
    return (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


def _blend(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    """Go from `others` to `images` and, above 1, beyond."""
    return torch.lerp(others.expand_as(images), images, factors).clamp_(0.0, 1.0)
