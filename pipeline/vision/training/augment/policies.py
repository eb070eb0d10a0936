"""AutoAugment and TrivialAugment: each image undergoes operations that are drawn for it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pipeline.vision.training.augment.operations import (
    BLENDS,
    MOVES,
    NUMBER,
    OPERATIONS,
    Values,
    inverse_moves,
    operate,
)
from pipeline.vision.training.augment.transform import Draws, Transform

# Strengths.
_WIDE_BINS, _CIFAR_BINS = 31, 10
# Two operations, each with its probability and its strength from 0 to 9: the policy that was found
# for CIFAR-10 (Cubuk et al. 2019, table 7 of the appendix).
_CIFAR10 = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("auto_contrast", 0.5, 8), ("equalize", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 7), ("auto_contrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 3)),
    (("equalize", 0.2, 0), ("auto_contrast", 0.6, 0)),
    (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
    (("color", 0.9, 9), ("equalize", 0.6, 6)),
    (("auto_contrast", 0.8, 4), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("auto_contrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("auto_contrast", 0.9, 2), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("auto_contrast", 0.9, 1)),
)
_SIGNED = frozenset(NUMBER[name] for name in (*MOVES, *BLENDS))
_BLENDED = frozenset(NUMBER[name] for name in BLENDS)


@dataclass(frozen=True)
class TrivialAugment(Transform):
    """One operation for each image, at any strength (Mueller and Hutter 2021, wide space).

    Attributes:
        height, width: of the images, pixels.
    """

    height: int
    width: int

    def draw(self, count: int, rng: np.random.Generator) -> Draws:
        """Draw operation, strength and direction: `kind` n, `value` n, `inverse` n x 2 x 3."""
        kinds = rng.integers(0, NUMBER["invert"], count)  # the one operation that is not taken
        strength = rng.integers(0, _WIDE_BINS, count)
        values = _WIDE[kinds, strength]
        return _draws(kinds, values, rng.random(count) < 0.5, (self.height, self.width))

    def apply(self, images: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """Apply to each image its operation."""
        return operate(images, draws["kind"], draws["value"], draws["inverse"])


@dataclass(frozen=True)
class AutoAugment(Transform):
    """One of 25 pairs of operations for each image, as found for CIFAR-10 (Cubuk et al. 2019).

    Attributes:
        height, width: of the images, pixels.
    """

    height: int
    width: int

    def draw(self, count: int, rng: np.random.Generator) -> Draws:
        """Draw a pair, and for both whether it is applied and in which direction."""
        shape = self.height, self.width
        pairs = rng.integers(0, len(_CIFAR10), count)
        draws: Draws = {}
        for place in range(2):
            table = [pair[place] for pair in _CIFAR10]
            kinds = np.array([NUMBER[name] for name, _, _ in table])[pairs]
            applied = rng.random(count) < np.array([share for _, share, _ in table])[pairs]
            strength = np.array([strength for _, _, strength in table])[pairs]
            values = _strengths(_CIFAR_BINS, _cifar_limits(shape))[kinds, strength]
            kinds = np.where(applied, kinds, NUMBER["identity"])
            drawn = _draws(kinds, values, rng.random(count) < 0.5, shape)
            draws |= {f"{name}{place}": numbers for name, numbers in drawn.items()}
        return draws

    def apply(self, images: Tensor, draws: Mapping[str, Tensor]) -> Tensor:
        """Apply to each image the first operation, then the second."""
        for place in range(2):
            numbers = (draws[f"{name}{place}"] for name in ("kind", "value", "inverse"))
            images = operate(images, *numbers)
        return images


def _draws(
    kinds: npt.NDArray[np.int64],
    values: Values,
    backwards: npt.NDArray[np.bool_],
    shape: tuple[int, int],
) -> Draws:
    signed = np.isin(kinds, list(_SIGNED))
    values = np.where(signed & backwards, -values, values)
    values = values + np.isin(kinds, list(_BLENDED))
    inverse = inverse_moves(kinds, values, shape)
    return {"kind": kinds, "value": values.astype(np.float32), "inverse": inverse}


def _strengths(bins: int, most: Mapping[str, float]) -> Values:
    """Return operations x bins: how far each operation goes at each strength.

    Args:
        bins: strengths.
        most: by operation; posterising leaves at least so many bits.
    """
    table = np.zeros((len(OPERATIONS), bins))
    share = np.linspace(0.0, 1.0, bins)
    for name, limit in most.items():
        table[NUMBER[name]] = limit * share
    for name in ("translate_x", "translate_y"):
        table[NUMBER[name]] = np.floor(table[NUMBER[name]])  # whole pixels
    table[NUMBER["posterize"]] = 8 - np.rint((8 - most["posterize"]) * share)
    table[NUMBER["solarize"]] = 255 * (1 - share)
    return table


def _cifar_limits(shape: tuple[int, int]) -> dict[str, float]:
    height, width = shape
    far = 150 / 331  # of the side, as the paper has it for ImageNet
    moves = {"shear_x": 0.3, "shear_y": 0.3, "translate_x": far * width, "rotate": 30.0}
    blends = dict.fromkeys(BLENDS, 0.9)
    return moves | {"translate_y": far * height, "posterize": 4.0} | blends


_WIDE = _strengths(
    _WIDE_BINS,
    {"shear_x": 0.99, "shear_y": 0.99, "translate_x": 32.0, "translate_y": 32.0, "rotate": 135.0}
    | dict.fromkeys(BLENDS, 0.99)
    | {"posterize": 2.0},
)
