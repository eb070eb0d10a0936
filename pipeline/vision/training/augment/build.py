"""From the list of params.yaml to augmentations in a row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from pipeline.errors import PipelineError
from pipeline.vision.training.augment.affine import Affine
from pipeline.vision.training.augment.arguments import mistakes, needs
from pipeline.vision.training.augment.color import Color
from pipeline.vision.training.augment.erase import Erase
from pipeline.vision.training.augment.moves import Crop, HorizontalFlip, Move, VerticalFlip, move
from pipeline.vision.training.augment.noise import Noise
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
    items: Sequence[Mapping[str, Mapping[str, Any]]], shape: tuple[int, int, int]
) -> Augment:
    """Turn the list of params.yaml into augmentations, in order.

    Args:
        items: one {name: {argument: value}} each; names and arguments are known to be valid.
        shape: height, width and channels of the images.

    Raises:
        PipelineError: arguments are missing, of another type or out of bounds.
    """
    needed = needs(shape)
    named = [(position, *next(iter(item.items()))) for position, item in enumerate(items)]
    wrong = [
        mistake
        for position, name, arguments in named
        for mistake in mistakes(f"augment[{position}].{name}", arguments, needed[name])
    ]
    if wrong:
        raise PipelineError("; ".join(wrong))
    height, width, _ = shape
    return Augment(
        tuple(
            (f"{position}.{name}", _BUILD[name](values, height, width))
            for position, name, values in named
        )
    )


_BUILD: dict[str, Callable[[Mapping[str, Any], int, int], Transform]] = {
    "hflip": lambda values, _height, width: HorizontalFlip(p=values["p"], width=width),
    "vflip": lambda values, height, _width: VerticalFlip(p=values["p"], height=height),
    "crop": lambda values, height, width: Crop(
        padding=values["padding"], height=height, width=width
    ),
    "affine": lambda values, height, width: Affine(
        degrees=values["degrees"],
        translate=values["translate"],
        scale=tuple(values["scale"]),
        shear=values["shear"],
        height=height,
        width=width,
    ),
    "color": lambda values, _height, _width: Color(
        brightness=values["brightness"],
        contrast=values["contrast"],
        saturation=values["saturation"],
        hue=values["hue"],
    ),
    "noise": lambda values, _height, _width: Noise(std=values["std"]),
    "erase": lambda values, height, width: Erase(
        p=values["p"], area=tuple(values["area"]), height=height, width=width
    ),
}


def _own(draws: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the draws of one item, by their names within it."""
    start = prefix + "."
    return {
        name.removeprefix(start): values for name, values in draws.items() if name.startswith(start)
    }
