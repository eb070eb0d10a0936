"""Views for test-time augmentation: what leaves the class as it is.

A view turns a batch into inputs for the network, n x channels x height x width. Pixels outside
the image repeat its border.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.data.balancing.augment import Augmenter
from pipeline.params import VIEWS
from pipeline.vision.bundle.inputs import Batch

# One {name: {argument: value}}, valid by the rules of `pipeline.params`.
Item = Mapping[str, Mapping[str, Any]]
View = Callable[[Batch], Tensor]


def expand(items: Sequence[Item]) -> list[dict[str, dict[str, Any]]]:
    """Turn the list of params.yaml, valid, into one item per view, as a bundle carries them.

    A `random` item becomes as many as it draws. Draws are numbered throughout, so that two such
    items never draw alike.
    """
    expanded: list[dict[str, dict[str, Any]]] = []
    draws = 0
    for item in items:
        ((name, arguments),) = item.items()
        if name != "random":
            expanded.append({name: dict(arguments)})
            continue
        for _ in range(arguments["draws"]):
            expanded.append({name: {"draw": draws, "policy": list(arguments["policy"])}})
            draws += 1
    return expanded


def view_names(items: Sequence[Item]) -> list[str]:
    """Name each view (see `expand`) for people: 'rotate 7', 'shift 0.05, 0', 'random 1'."""
    return [_name(*next(iter(item.items()))) for item in items]


def _name(name: str, arguments: Mapping[str, Any]) -> str:
    if name == "random":
        return f"random {arguments['draw'] + 1}"
    # In the order in which they are documented, however they are written.
    values = ", ".join(f"{arguments[key]:g}" for key in VIEWS[name])
    return f"{name} {values}".strip()


def build_views(items: Sequence[Item], seed: int, shape: tuple[int, int, int]) -> list[View]:
    """Turn views (see `expand`) into functions, in order.

    Args:
        items: valid by the rules of `pipeline.params`.
        seed: of random views.
        shape: height, width, channels of the images.

    Raises:
        PipelineError: a random view's policy has a value that albumentations does not take, or a
            transform that does not suit the images.
    """
    return [
        _build(*next(iter(item.items())), called, seed, shape)
        for item, called in zip(items, view_names(items), strict=True)
    ]


def _build(
    name: str, arguments: Mapping[str, Any], called: str, seed: int, shape: tuple[int, int, int]
) -> View:
    if name in _FLIPS:
        return _FLIPS[name]
    if name == "random":
        augmenter = Augmenter(arguments["policy"], shape, f"the view '{called}': policy")
        return _Random(augmenter, seed, arguments["draw"])
    height, width, _ = shape
    return _Warp(_INVERSES[name](height / width, **arguments))


_FLIPS: Mapping[str, View] = {
    "identity": lambda batch: batch.inputs,
    "hflip": lambda batch: batch.inputs.flip(3),
    "vflip": lambda batch: batch.inputs.flip(2),
}

# x and y in the image, of which x and y in the view are made: 2 x 3.
_Inverse = tuple[tuple[float, float, float], tuple[float, float, float]]


def _shift(_height_by_width: float, x: float, y: float) -> _Inverse:
    """Move right by `x` of the width and down by `y` of the height, between whole pixels too."""
    # The inverse of the move, in sides that are 2 long.
    return (1.0, 0.0, -2.0 * x), (0.0, 1.0, -2.0 * y)


def _rotate(height_by_width: float, degrees: float) -> _Inverse:
    """Turn counter-clockwise about the middle."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # Both axes run from -1 to 1 whatever the image's form; turn in pixels, not in these.
    return (cos, -sin * height_by_width, 0.0), (sin / height_by_width, cos, 0.0)


def _scale(_height_by_width: float, factor: float) -> _Inverse:
    """Enlarge about the middle by `factor`; below 1 shrinks."""
    return (1.0 / factor, 0.0, 0.0), (0.0, 1.0 / factor, 0.0)


def _crop(_height_by_width: float, share: float, x: float, y: float) -> _Inverse:
    """Enlarge a window of `share` of each side; at -1 it lies left or on top, at 1 right or below.

    With share 0.875 and x and y of 0 and of 1 and -1 these are the five crops of Krizhevsky et al.
    2012, section 4.1, but brought back to the image's size.
    """
    # The middle of the window: at 1, the window's end is the image's.
    return (share, 0.0, x * (1.0 - share)), (0.0, share, y * (1.0 - share))


_INVERSES: Mapping[str, Callable[..., _Inverse]] = {
    "shift": _shift,
    "rotate": _rotate,
    "scale": _scale,
    "crop": _crop,
}


@dataclass(frozen=True)
class _Warp:
    """Samples each pixel of the view where it comes from in the image, bilinearly.

    Attributes:
        inverse: leads from places in the view back to places in the image; places are (x, y, 1)
            with the middle at (0, 0) and edges at -1 and 1, x to the right, y down.
    """

    inverse: _Inverse

    def __call__(self, batch: Batch) -> Tensor:
        images = batch.inputs
        n, _, height, width = images.shape
        warped = functional.grid_sample(
            images,
            _grid(self.inverse, height, width, images.device).expand(n, height, width, 2),
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        # As the images are, and as most networks are faster, by up to twice.
        return warped.contiguous(memory_format=torch.channels_last)


# Once, for all images and batches: it takes longer to make than to use.
@lru_cache(maxsize=32)
def _grid(inverse: _Inverse, height: int, width: int, device: torch.device) -> Tensor:
    """Return the place in the image of each pixel of the view, 1 x height x width x 2."""
    matrix = torch.tensor([inverse], device=device)
    return functional.affine_grid(matrix, [1, 1, height, width], align_corners=False)


@dataclass(frozen=True)
class _Random:
    """One draw of an albumentations policy for each image.

    Attributes:
        augmenter: the policy.
        seed, draw: with the image's own pixels, all that its draw depends on.
    """

    augmenter: Augmenter
    seed: int
    draw: int

    def __call__(self, batch: Batch) -> Tensor:
        # One after another: this is Python for the most part, and threads only make it slower.
        drawn = [
            self.augmenter(image, image, self._seed_of(digest))
            for image, digest in zip(batch.images, batch.digests, strict=True)
        ]
        return batch.normalize(np.stack(drawn))

    def _seed_of(self, content: bytes) -> int:
        key = f"{self.seed}:{self.draw}:".encode() + content
        return int.from_bytes(hashlib.sha256(key).digest()[:4])
