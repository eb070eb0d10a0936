"""Smaller images in the first epochs of a training, which then take less time."""

from torch import Tensor
from torch.nn import functional

from pipeline.params.choices.training import ProgressiveResizing, Training


def small_until(recipe: Training) -> int:
    """Return the first epoch (from 0) that trains on images of their own size."""
    resizing = recipe.resizing
    if not isinstance(resizing, ProgressiveResizing):
        return 0
    return min(round(resizing.until * recipe.epochs), recipe.epochs - 1)


def small_side(side: int, scale: float) -> int:
    """Return the pixels of a side that is made smaller: at least 1."""
    return max(1, round(scale * side))


def resize(images: Tensor, recipe: Training, epoch: int) -> Tensor:
    """Return images of the size that an epoch (from 0) trains on.

    Args:
        images: n x channels x height x width; the result is laid out in memory as they are.
        recipe: of the training.
        epoch: the running one.
    """
    if epoch >= small_until(recipe):
        return images
    assert isinstance(recipe.resizing, ProgressiveResizing)
    height, width = (small_side(side, recipe.resizing.scale) for side in images.shape[-2:])
    return functional.interpolate(images, (height, width), mode="bilinear", antialias=True)
