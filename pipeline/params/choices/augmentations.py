"""Augmentations of training batches, as `augment` of `train` and `finetune` lists them.

What an item leaves out has torchvision's default: that of RandomHorizontalFlip, ColorJitter,
GaussianNoise and RandomErasing of the same arguments. `affine` and `color` change only what they
name, as RandomAffine and ColorJitter do. The padding of 4 is that of He et al. 2016, section 4.2.
"""

from collections.abc import Iterable
from typing import Annotated, ClassVar

from pipeline.params._types import LISTED, Keyed, Option, Shape, between, span, whole


class HorizontalFlip(Option):
    """Left and right swapped in a share `p` of the images."""

    key: ClassVar[str] = "hflip"
    p: Annotated[float, between(0.0, 1.0)] = 0.5


class VerticalFlip(Option):
    """Top and bottom swapped in a share `p` of the images."""

    key: ClassVar[str] = "vflip"
    p: Annotated[float, between(0.0, 1.0)] = 0.5


class Crop(Option):
    """A window of the image's own size, moved by up to `padding` pixels either way."""

    key: ClassVar[str] = "crop"
    padding: Annotated[int, whole(0)] = 4

    def misfits(self, shape: Shape) -> Iterable[str]:
        """Refuse to move the window by more than half of an image's side."""
        half = min(shape[:2]) // 2
        if self.padding > half:
            yield f".padding: got {self.padding}, need a whole number from 0 to {half}"


class Affine(Option):
    """Turned, moved and slanted either way by up to this, and scaled by a factor in `scale`.

    `translate` is a share of width and height; `degrees` and `shear` are degrees.
    """

    key: ClassVar[str] = "affine"
    degrees: Annotated[float, between(0.0, 180.0)] = 0.0
    translate: Annotated[float, between(0.0, 0.5)] = 0.0
    scale: Annotated[tuple[float, float], span(0.1, 10.0), LISTED] = (1.0, 1.0)
    shear: Annotated[float, between(0.0, 60.0)] = 0.0


class Color(Option):
    """Each property multiplied by a factor from 1 - x to 1 + x, the hue turned by up to `hue`."""

    key: ClassVar[str] = "color"
    brightness: Annotated[float, between(0.0, 1.0)] = 0.0
    contrast: Annotated[float, between(0.0, 1.0)] = 0.0
    saturation: Annotated[float, between(0.0, 1.0)] = 0.0
    hue: Annotated[float, between(0.0, 0.5)] = 0.0

    def misfits(self, shape: Shape) -> Iterable[str]:
        """Refuse what has no effect: one channel has neither saturation nor hue."""
        for name in ("saturation", "hue"):
            if shape[2] == 1 and (value := getattr(self, name)):
                yield f".{name}: got {value:g}, need 0, for the images have one channel"


class Noise(Option):
    """Normal noise of standard deviation `std` in each value; values lie in [0, 1]."""

    key: ClassVar[str] = "noise"
    std: Annotated[float, between(0.0, 1.0)] = 0.1


class Erase(Option):
    """A rectangle painted over in a share `p` of the images; `area` is its share of the image."""

    key: ClassVar[str] = "erase"
    p: Annotated[float, between(0.0, 1.0)] = 0.5
    area: Annotated[tuple[float, float], span(0.001, 1.0), LISTED] = (0.02, 0.33)


class Cutout(Option):
    """A square of `size` pixels painted over; 16 is the paper's for CIFAR-10's 32."""

    key: ClassVar[str] = "cutout"
    size: Annotated[int, whole(1)] = 16

    def misfits(self, shape: Shape) -> Iterable[str]:
        """Refuse a square that is larger than the image."""
        side = min(shape[:2])
        if self.size > side:
            yield f".size: got {self.size}, need a whole number from 1 to {side}"


class AutoAugment(Option):
    """One of the 25 pairs of operations that were found for CIFAR-10 (Cubuk et al. 2019)."""

    key: ClassVar[str] = "auto_augment"


class TrivialAugment(Option):
    """One of 14 operations at any strength (Mueller and Hutter 2021)."""

    key: ClassVar[str] = "trivial_augment"


Augmentation = Annotated[
    HorizontalFlip
    | VerticalFlip
    | Crop
    | Affine
    | Color
    | Noise
    | Erase
    | Cutout
    | AutoAugment
    | TrivialAugment,
    Keyed("augmentation"),
]
Augmentations = Annotated[tuple[Augmentation, ...], LISTED]
