"""The views of test-time augmentation, as `tta.views` lists them and as a bundle carries them."""

from collections.abc import Iterable
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from pipeline.params._types import Keyed, Option, Shape, between, misfits, refuse, whole
from pipeline.params.choices.transforms import Policy, Superimpose

# Beyond these bounds nothing, or nothing but border, is left of the image.
_Move = Annotated[float, between(-0.5, 0.5)]
_Place = Annotated[float, between(-1.0, 1.0)]


class Identity(Option):
    """The image as it is."""

    key: ClassVar[str] = "identity"


class HorizontalFlip(Option):
    """Left and right swapped."""

    key: ClassVar[str] = "hflip"


class VerticalFlip(Option):
    """Top and bottom swapped."""

    key: ClassVar[str] = "vflip"


class Shift(Option):
    """Moved right by `x` of the width and down by `y` of the height."""

    key: ClassVar[str] = "shift"
    x: _Move
    y: _Move


class Rotate(Option):
    """Turned counter-clockwise about the middle."""

    key: ClassVar[str] = "rotate"
    degrees: Annotated[float, between(-180.0, 180.0)]


class Scale(Option):
    """Enlarged about the middle; a factor below 1 shrinks."""

    key: ClassVar[str] = "scale"
    factor: Annotated[float, between(0.25, 4.0)]


class Crop(Option):
    """A window of `share` of each side, enlarged; at -1 it lies left or on top."""

    key: ClassVar[str] = "crop"
    share: Annotated[float, between(0.25, 1.0)]
    x: _Place
    y: _Place


def _knows_no_class(policy: Policy) -> Policy:
    needs = "blends in training images of the class, which is not known here; leave it out"
    blends = [i for i, item in enumerate(policy) if isinstance(item, Superimpose)]
    return refuse(policy, [f"[{i}].{Superimpose.key}: {needs}" for i in blends])


class _Drawn(Option):
    key: ClassVar[str] = "random"
    policy: Annotated[Policy, Field(min_length=1), AfterValidator(_knows_no_class)]

    def misfits(self, shape: Shape) -> Iterable[str]:
        """List what of the policy does not suit the images."""
        return (f".policy{mistake}" for mistake in misfits(self.policy, shape))


class Random(_Drawn):
    """As many views as `draws`, each a draw of the policy: in params.yaml only."""

    draws: Annotated[int, whole(1, 100)]


class Draw(_Drawn):
    """One draw of the policy, the one of this number: what `random` means in a bundle."""

    draw: Annotated[int, whole(0)]


_Still = Identity | HorizontalFlip | VerticalFlip | Shift | Rotate | Scale | Crop
View = Annotated[_Still | Draw, Keyed("view")]
ViewItem = Annotated[_Still | Random, Keyed("view")]  # of tta.views


def count_views(items: Iterable[Option]) -> int:
    """Count the views that the items of tta.views stand for: each draw is one."""
    return sum(item.draws if isinstance(item, Random) else 1 for item in items)
