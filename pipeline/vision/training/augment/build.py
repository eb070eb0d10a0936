"""From the list of params.yaml to augmentations in a row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.params import misfits
from pipeline.params.choices import augmentations
from pipeline.vision.training.augment.affine import Affine
from pipeline.vision.training.augment.color import Color
from pipeline.vision.training.augment.erase import Cutout, Erase
from pipeline.vision.training.augment.moves import Crop, HorizontalFlip, Move, VerticalFlip, move
from pipeline.vision.training.augment.noise import Noise
from pipeline.vision.training.augment.policies import AutoAugment, TrivialAugment
from pipeline.vision.training.augment.transform import Draws, Transform


@dataclass(frozen=True)
class Augment:
    """Augmentations, one after another.

    Attributes:
        items: each after a name of its own, 'position.name': one may come twice.
    """

    items: tuple[tuple[str, Transform], ...]

    def draw(self, count: int, rng: np.random.Generator) -> Draws:
        """Draw a few numbers for each image of a global batch.

        Args:
            count: images of the global batch.
            rng: the same for all workers.

        Returns:
            Arrays of `count` rows, named 'position.name.number'.
        """
        return {
            f"{prefix}.{name}": values
            for prefix, item in self.items
            for name, values in item.draw(count, rng).items()
        }

    def apply(self, images: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """Return the augmented images; those given stay as they are.

        The host never waits for the device.

        Args:
            images: n x channels x height x width, float32 in [0, 1].
            draws: the rows of `draw` that belong to these images, on their device.

        Returns:
            The same shape and range.
        """
        waiting: list[tuple[Move, Mapping[str, Tensor]]] = []
        for prefix, item in self.items:
            own = _own(draws, prefix)
            if isinstance(item, Move):
                waiting.append((item, own))
            else:
                images, waiting = item.apply(move(images, waiting), own), []
        return move(images, waiting)


def build_augment(
    items: Sequence[augmentations.Augmentation], shape: tuple[int, int, int]
) -> Augment:
    """Turn the list of params.yaml into augmentations, in order.

    Args:
        items: as `train.augment` has them.
        shape: height, width and channels of the images.

    Raises:
        PipelineError: arguments that do not suit images of this shape.
    """
    if wrong := misfits(items, shape):
        raise PipelineError("; ".join(f"augment{mistake}" for mistake in wrong))
    return Augment(tuple((f"{i}.{item.key}", _build(item, shape)) for i, item in enumerate(items)))


def _build(  # noqa: PLR0911
    item: augmentations.Augmentation, shape: tuple[int, int, int]
) -> Transform:
    height, width, _ = shape
    match item:
        case augmentations.HorizontalFlip(p=p):
            return HorizontalFlip(p, width)
        case augmentations.VerticalFlip(p=p):
            return VerticalFlip(p, height)
        case augmentations.Crop(padding=padding):
            return Crop(padding, height, width)
        case augmentations.Affine():
            return Affine(**dict(item), height=height, width=width)
        case augmentations.Color():
            return Color(**dict(item))
        case augmentations.Noise(std=std):
            return Noise(std)
        case augmentations.Erase(p=p, area=area):
            return Erase(p, area, height, width)
        case augmentations.Cutout(size=size):
            return Cutout(size, height, width)
        case augmentations.AutoAugment():
            return AutoAugment(height, width)
        case augmentations.TrivialAugment():
            return TrivialAugment(height, width)


def _own(draws: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the draws of one item, by their names within it."""
    start = prefix + "."
    return {
        name.removeprefix(start): values for name, values in draws.items() if name.startswith(start)
    }
