"""The transforms of albumentations that a policy may hold, and what each argument may be.

A policy is checked when params are loaded, and importing albumentations takes two seconds: so what
it accepts stands here once more. A contract test holds both equal. An argument that is left out
has albumentations' default. `Superimpose` is our own.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import create_model, model_validator

from pipeline.params._types import (
    LISTED,
    Given,
    Keyed,
    Need,
    Option,
    Shape,
    between,
    refuse,
    span,
    whole,
)

_Pair = Annotated[tuple[float, float], LISTED]
_WholePair = Annotated[tuple[int, int], LISTED]
_P = Annotated[float, between(0.0, 1.0)]


class Transform(Given, Option):
    """One transform of a policy; its class has the name that albumentations gives it."""

    def __init_subclass__(cls) -> None:
        cls.key = cls.__name__

    def _check_apart(self, one: str, other: str) -> Self:
        both = {one, other} <= self.model_fields_set
        return refuse(self, [f"{one} and {other} do not go together, keep one"] * both)


class _Translating(Transform):
    @model_validator(mode="after")
    def _translates_in_one_unit(self) -> Self:
        return self._check_apart("translate_percent", "translate_px")


class _Resizing(Transform):
    @model_validator(mode="after")
    def _resizes_in_one_unit(self) -> Self:
        missing = not {"px", "percent"} & self.model_fields_set
        refuse(self, ["needs px or percent, add one"] * missing)
        return self._check_apart("px", "percent")


class _InColour(Transform):
    def misfits(self, shape: Shape) -> Iterable[str]:
        """Refuse images with one channel."""
        if shape[2] == 1:
            yield ": needs colour, but pack.channels is 1; leave it out or set pack.channels to 3"


class Superimpose(Transform):
    """Blend in another training image of the class, by a weight drawn from a range."""

    weight: Annotated[_Pair, span(0.0, 1.0)] = (0.1, 0.3)
    p: _P = 0.5


def _of(kind: Any, need: Need) -> Any:
    return Annotated[kind, need]


def _number_or_pair(low: float = -math.inf, high: float = math.inf, above: bool = False) -> Any:
    return _of(float | _Pair, _either(low, high, above))


def _per_axis(
    low: float = -math.inf, above: bool = False, number: Any = float, pair: Any = _Pair
) -> Any:
    """Return the type of a number or a range for both axes, or of one for each of x and y."""
    either = _either(low, math.inf, above)
    need = Need(
        f"{either.words}, or these for each axis as {{x: ..., y: ...}}",
        lambda value: (
            len(value) > 0 and all(map(either.holds, value.values()))
            if isinstance(value, dict)
            else either.holds(value)
        ),
    )
    return _of(number | pair | dict[Literal["x", "y"], number | pair], need)


def _either(low: float, high: float, above: bool) -> Need:
    number, pair = between(low, high, above=above), span(low, high, above=above)
    return Need(
        f"{number.words}, or {pair.words}",
        lambda value: (pair if isinstance(value, tuple) else number).holds(value),
    )


def _kernel(smallest: int) -> Any:
    """Return the type of a kernel's side: an odd number of pixels, or a range of them."""
    need = span(smallest)

    def holds(value: Any) -> bool:
        low, high = value if isinstance(value, tuple) else (smallest, value)
        return need.holds((low, high)) and all(px % 2 == 1 or px == 0 for px in (low, high))

    words = f"an odd whole number of at least {max(smallest, 1)}, or [low, high] of such"
    return _of(int | _WholePair, Need(words, holds))


_Side = float | _Pair
_WholeSide = int | _WholePair


def _are_ordered(value: Any) -> bool:
    if isinstance(value, tuple) and len(value) == 2:
        return bool(value[0] <= value[1])
    return not isinstance(value, tuple) or all(map(_are_ordered, value))


_SIDES = Need(
    "a number, [low, high], or four of these: for the top, right, bottom and left", _are_ordered
)
_HUE = Need(
    "a number from 0 to 0.5, or [low, high] with -0.5 <= low <= high <= 0.5",
    lambda value: (span(-0.5, 0.5) if isinstance(value, tuple) else between(0.0, 0.5)).holds(value),
)
_FLAG = _of(bool, Need("true or false"))
_UNIT_PAIR = _of(_Pair, span(0.0, 1.0))
_POSITIVE_PAIR = _of(_Pair, span(0.0))
_FILL = _of(float | Annotated[tuple[float, ...], LISTED], Need("a number, or one for each channel"))
_INTERPOLATION = {"interpolation": _of(int, whole(0, 4))}  # cv2.INTER_NEAREST to INTER_LANCZOS4
_ANY_INTERPOLATION = {"interpolation": _of(int, whole(0, 6))}  # the exact kinds of these, too
_BORDER = {"border_mode": _of(int, whole(0, 4)), "fill": _FILL}  # cv2.BORDER_CONSTANT to _101
_BOX = {"rotate_method": Literal["largest_box", "ellipse"]}

# Name: the arguments beside `p`. Where one rules out another, or images, _BASES says so.
_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    # geometric
    "Affine": {
        "scale": _per_axis(0.0, above=True),
        "translate_percent": _per_axis(),
        "translate_px": _per_axis(number=int, pair=_WholePair),
        "rotate": _number_or_pair(),
        "shear": _per_axis(),
        "fit_output": _FLAG,
        "keep_ratio": _FLAG,
        "balanced_scale": _FLAG,
        **_BOX,
        **_INTERPOLATION,
        **_BORDER,
    },
    "Rotate": {
        "limit": _number_or_pair(),
        "crop_border": _FLAG,
        **_BOX,
        **_INTERPOLATION,
        **_BORDER,
    },
    "RandomRotate90": {},
    "Transpose": {},
    "Perspective": {
        "scale": _number_or_pair(0.0),
        "keep_size": _FLAG,
        "fit_output": _FLAG,
        **_INTERPOLATION,
        **_BORDER,
    },
    "HorizontalFlip": {},
    "VerticalFlip": {},
    "RandomResizedCrop": {
        "scale": _of(_Pair, span(0.0, 1.0, above=True)),
        "ratio": _of(_Pair, span(0.0, above=True)),
        "area_for_downscale": Literal["image", "image_mask"],
        **_ANY_INTERPOLATION,
    },
    "CropAndPad": {
        "px": _of(
            _WholeSide | Annotated[tuple[_WholeSide, _WholeSide, _WholeSide, _WholeSide], LISTED],
            _SIDES,
        ),
        "percent": _of(_Side | Annotated[tuple[_Side, _Side, _Side, _Side], LISTED], _SIDES),
        "keep_size": _FLAG,
        "sample_independently": _FLAG,
        **_ANY_INTERPOLATION,
        **_BORDER,
    },
    "ElasticTransform": {
        "alpha": _of(float, between(0.0)),
        "sigma": _of(float, between(1.0)),
        "approximate": _FLAG,
        "same_dxdy": _FLAG,
        "noise_distribution": Literal["gaussian", "uniform"],
        **_INTERPOLATION,
        **_BORDER,
    },
    "GridDistortion": {
        "num_steps": _of(int, whole(1)),
        "distort_limit": _number_or_pair(-1.0, 1.0),
        "normalized": _FLAG,
        **_INTERPOLATION,
        **_BORDER,
    },
    # photometric
    "GaussNoise": {
        "std_range": _UNIT_PAIR,
        "mean_range": _of(_Pair, span(-1.0, 1.0)),
        "per_channel": _FLAG,
        "noise_scale_factor": _of(float, between(0.0, 1.0, above=True)),
    },
    "ISONoise": {"color_shift": _UNIT_PAIR, "intensity": _POSITIVE_PAIR},
    "ShotNoise": {"scale_range": _POSITIVE_PAIR},
    "SaltAndPepper": {"amount": _UNIT_PAIR, "salt_vs_pepper": _UNIT_PAIR},
    "MultiplicativeNoise": {
        "multiplier": _POSITIVE_PAIR,
        "per_channel": _FLAG,
        "elementwise": _FLAG,
    },
    "RandomBrightnessContrast": {
        "brightness_limit": _number_or_pair(),
        "contrast_limit": _number_or_pair(),
        "brightness_by_max": _FLAG,
        "ensure_safe_range": _FLAG,
    },
    "RandomGamma": {"gamma_limit": _number_or_pair(1.0)},
    "ColorJitter": {
        "brightness": _number_or_pair(0.0),
        "contrast": _number_or_pair(0.0),
        "saturation": _number_or_pair(0.0),
        "hue": _of(float | _Pair, _HUE),
    },
    "HueSaturationValue": {
        "hue_shift_limit": _number_or_pair(),
        "sat_shift_limit": _number_or_pair(),
        "val_shift_limit": _number_or_pair(),
    },
    "GaussianBlur": {"blur_limit": _kernel(0), "sigma_limit": _number_or_pair(0.0)},
    "MotionBlur": {
        "blur_limit": _kernel(3),
        "allow_shifted": _FLAG,
        "angle_range": _of(_Pair, span(0.0, 360.0)),
        "direction_range": _of(_Pair, span(-1.0, 1.0)),
    },
    "MedianBlur": {"blur_limit": _kernel(3)},
    "Sharpen": {
        "alpha": _UNIT_PAIR,
        "lightness": _POSITIVE_PAIR,
        "method": Literal["kernel", "gaussian"],
        "kernel_size": _of(
            int, Need("an odd whole number of at least 3", lambda px: px >= 3 and px % 2 == 1)
        ),
        "sigma": _of(float, between(0.0, above=True)),
    },
    "ImageCompression": {
        "compression_type": Literal["jpeg", "webp"],
        "quality_range": _of(_WholePair, span(1, 100)),
    },
    "CoarseDropout": {
        "num_holes_range": _of(_WholePair, span(1)),
        "hole_height_range": _POSITIVE_PAIR,
        "hole_width_range": _POSITIVE_PAIR,
        "fill": _of(
            _FILL | Literal["random", "random_uniform", "inpaint_telea", "inpaint_ns"],
            Need(
                "a number or one per channel, random, random_uniform, inpaint_telea or inpaint_ns"
            ),
        ),
    },
}
_BASES = {
    "Affine": _Translating,
    "CropAndPad": _Resizing,
    "ISONoise": _InColour,
    "HueSaturationValue": _InColour,
}


def _define(name: str, arguments: Mapping[str, Any]) -> type[Transform]:
    fields: Any = {argument: (kind, None) for argument, kind in {**arguments, "p": _P}.items()}
    return create_model(name, __base__=_BASES.get(name, Transform), __module__=__name__, **fields)


TRANSFORMS: Mapping[str, type[Transform]] = {
    **{name: _define(name, arguments) for name, arguments in _ARGUMENTS.items()},
    Superimpose.key: Superimpose,
}
globals().update(TRANSFORMS)  # where pickle looks for them, on the way to worker processes

Policy = Annotated[
    tuple[Annotated[Transform, Keyed("transform", tuple(TRANSFORMS.values()))], ...], LISTED
]
