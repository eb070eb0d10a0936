"""Views for test-time augmentation: geometry on batches that leaves the class as it is.

A view maps n x channels x height x width to the same shape. Pixels outside the image repeat its
border.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.errors import PipelineError
from pipeline.vision.predict import View


def identity(images: Tensor) -> Tensor:
    """Return the images as they are."""
    return images


def hflip(images: Tensor) -> Tensor:
    """Swap left and right."""
    return images.flip(3)


def vflip(images: Tensor) -> Tensor:
    """Swap top and bottom."""
    return images.flip(2)


def shift(images: Tensor, x: float, y: float) -> Tensor:
    """Move right by `x` of the width and down by `y` of the height, between whole pixels too."""
    # affine_grid asks, for each output pixel, where it comes from: the inverse of the move. Its
    # coordinates run from -1 to 1, so that a width is 2.
    return _warp(images, [[1.0, 0.0, -2.0 * x], [0.0, 1.0, -2.0 * y]])


def rotate(images: Tensor, degrees: float) -> Tensor:
    """Turn counter-clockwise about the middle."""
    height, width = images.shape[2:]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # Both axes run from -1 to 1 whatever the image's form; turn in pixels, not in these.
    return _warp(images, [[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]])


def scale(images: Tensor, factor: float) -> Tensor:
    """Enlarge about the middle by `factor`; below 1 shrinks."""
    return _warp(images, [[1.0 / factor, 0.0, 0.0], [0.0, 1.0 / factor, 0.0]])


_VIEWS: dict[str, Any] = {
    "identity": identity,
    "hflip": hflip,
    "vflip": vflip,
    "shift": shift,
    "rotate": rotate,
    "scale": scale,
}
# Beyond these bounds nothing, or nothing but border, is left of the image.
_BOUNDS: dict[str, dict[str, tuple[float, float]]] = {
    "shift": {"x": (-0.5, 0.5), "y": (-0.5, 0.5)},
    "rotate": {"degrees": (-180.0, 180.0)},
    "scale": {"factor": (0.25, 4.0)},
}


def view_names(items: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Name each view for people: 'rotate 7', 'shift 0.05, 0'."""
    names = []
    for item in items:
        ((name, arguments),) = item.items()
        values = ", ".join(f"{arguments[key]:g}" for key in _BOUNDS.get(name, {}))
        names.append(f"{name} {values}".strip())
    return names


def build_views(items: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[View]:
    """Turn the list of params.yaml into functions, in order.

    Args:
        items: one {name: {argument: value}} each; names and arguments are known to be valid.

    Raises:
        PipelineError: an argument is missing, is not a number, or is out of bounds.
    """
    views = []
    for position, item in enumerate(items):
        ((name, arguments),) = item.items()
        for key, (low, high) in _BOUNDS.get(name, {}).items():
            _check_argument(f"tta.views[{position}].{name}.{key}", arguments.get(key), low, high)
        views.append(_bind(_VIEWS[name], dict(arguments)))
    return views


def _bind(function: Any, arguments: dict[str, float]) -> View:
    def view(images: Tensor) -> Tensor:
        transformed: Tensor = function(images, **arguments)
        return transformed

    return view


def _check_argument(key: str, value: object, low: float, high: float) -> None:
    if value is None:
        raise PipelineError(f"{key}: missing, add a number from {low:g} to {high:g}")
    # True is a number to Python, NaN fails both comparisons.
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise PipelineError(f"{key}: got {value}, need a number from {low:g} to {high:g}")


def _warp(images: Tensor, inverse: list[list[float]]) -> Tensor:
    """Sample each output pixel where the 2 x 3 matrix says, bilinearly."""
    n, channels, height, width = images.shape
    # All images move alike: as channels of one image they share one grid, which otherwise takes
    # longer to make than to use.
    together = images.reshape(1, n * channels, height, width)
    matrix = torch.tensor([inverse], dtype=images.dtype, device=images.device)
    grid = functional.affine_grid(matrix, list(together.shape), align_corners=False)
    sampled = functional.grid_sample(
        together, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return sampled.reshape(images.shape)
