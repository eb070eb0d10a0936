"""Views for test-time augmentation: what leaves the class as it is.

A view turns a batch into inputs for the network, n x channels x height x width. Pixels outside
the image repeat its border.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count, islice

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.data.balancing.augment import Augmenter
from pipeline.params.choices import views
from pipeline.vision.bundle.inputs import Batch

View = Callable[[Batch], Tensor]


def expand(items: Sequence[views.ViewItem]) -> list[views.View]:
    """Turn the list of params.yaml into one item per view, as a bundle carries them.

    A `random` item becomes as many as it draws. Draws are numbered throughout, so that two such
    items never draw alike.
    """
    expanded: list[views.View] = []
    draws = count()
    for item in items:
        if isinstance(item, views.Random):
            numbers = islice(draws, item.draws)
            expanded += [views.Draw(draw=number, policy=item.policy) for number in numbers]
        else:
            expanded.append(item)
    return expanded


def view_names(items: Sequence[views.View]) -> list[str]:
    """Name each view for people: 'rotate 7', 'shift 0.05, 0', 'random 1'."""
    return [_name(item) for item in items]


def _name(item: views.View) -> str:
    if isinstance(item, views.Draw):
        return f"random {item.draw + 1}"
    return f"{item.key} {', '.join(f'{value:g}' for _, value in item)}".strip()


def build_views(items: Sequence[views.View], seed: int, shape: tuple[int, int, int]) -> list[View]:
    """Turn views into functions, in order.

    Args:
        items: see `expand`.
        seed: of random views.
        shape: height, width, channels of the images.

    Raises:
        PipelineError: a random view's policy has a transform that does not suit the images.
    """
    return [_build(item, seed, shape) for item in items]


def _build(item: views.View, seed: int, shape: tuple[int, int, int]) -> View:  # noqa: PLR0911
    height, width, _ = shape
    match item:
        case views.Identity():
            return lambda batch: batch.inputs
        case views.HorizontalFlip():
            return lambda batch: batch.inputs.flip(3)
        case views.VerticalFlip():
            return lambda batch: batch.inputs.flip(2)
        case views.Shift(x=x, y=y):
            return _Warp(_shift(x, y))
        case views.Rotate(degrees=degrees):
            return _Warp(_rotate(height / width, degrees))
        case views.Scale(factor=factor):
            return _Warp(_scale(factor))
        case views.Crop(share=share, x=x, y=y):
            return _Warp(_crop(share, x, y))
        case views.Draw(draw=draw, policy=policy):
            augmenter = Augmenter(policy, shape, f"the view '{_name(item)}': policy")
            return _Random(augmenter, seed, draw)


# x and y in the image, of which x and y in the view are made: 2 x 3.
_Inverse = tuple[tuple[float, float, float], tuple[float, float, float]]


def _shift(x: float, y: float) -> _Inverse:
    """Move right by `x` of the width and down by `y` of the height, between whole pixels too."""
    # The inverse of the move, in sides that are 2 long.
    return (1.0, 0.0, -2.0 * x), (0.0, 1.0, -2.0 * y)


def _rotate(height_by_width: float, degrees: float) -> _Inverse:
    """Turn counter-clockwise about the middle."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # Both axes run from -1 to 1 whatever the image's form; turn in pixels, not in these.
    return (cos, -sin * height_by_width, 0.0), (sin / height_by_width, cos, 0.0)


def _scale(factor: float) -> _Inverse:
    """Enlarge about the middle by `factor`; below 1 shrinks."""
    return (1.0 / factor, 0.0, 0.0), (0.0, 1.0 / factor, 0.0)


def _crop(share: float, x: float, y: float) -> _Inverse:
    """Enlarge a window of `share` of each side; at -1 it lies left or on top, at 1 right or below.

    With share 0.875 and x and y of 0 and of 1 and -1 these are the five crops of Krizhevsky et al.
    2012, section 4.1, but brought back to the image's size.
    """
    # The middle of the window: at 1, the window's end is the image's.
    return (share, 0.0, x * (1.0 - share)), (0.0, share, y * (1.0 - share))


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
