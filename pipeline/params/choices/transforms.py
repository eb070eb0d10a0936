"""The transforms of albumentations that a policy may hold, and what each argument may be.

A policy is checked when params are loaded, and importing albumentations takes two seconds: so what
it accepts stands here once more. A contract test compares both. An argument that is left out has
albumentations' default. `Superimpose` is our own.
"""

import math
import operator
from collections.abc import Callable, Iterable, Mapping
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
_Side = float | _Pair
_WholeSide = int | _WholePair
_P = Annotated[float, between(0.0, 1.0)]

_NEED_COLOUR = ("ISONoise", "HueSaturationValue")
_ONE_OF = {"Affine": ("translate_percent", "translate_px"), "CropAndPad": ("px", "percent")}
_NEED_ONE = ("CropAndPad",)


class Transform(Given, Option):
    """One transform of a policy; its class has the name that albumentations gives it."""

    def __init_subclass__(cls) -> None:
        cls.key = cls.__name__

    @model_validator(mode="after")
    def _says_it_once(self) -> Self:
        names = _ONE_OF.get(self.key, ())
        given = self.model_fields_set.intersection(names)
        if len(given) > 1:
            raise ValueError(f"{' and '.join(names)} do not go together, keep one")
        return refuse(
            self, [f"needs {' or '.join(names)}, add one"] * (self.key in _NEED_ONE and not given)
        )

    def misfits(self, shape: Shape) -> Iterable[str]:
        """List what does not suit the number of channels."""
        channels, fill = shape[2], getattr(self, "fill", None)
        if self.key in _NEED_COLOUR and channels == 1:
            yield ": needs colour, but pack.channels is 1; leave it out or set pack.channels to 3"
        if isinstance(fill, tuple) and len(fill) != channels:
            yield f".fill: got {len(fill)} values, need one, or {channels} for as many channels"


class Superimpose(Transform):
    """Blend in another training image of the class, by a weight drawn from a range."""

    weight: Annotated[_Pair, span(0.0, 1.0)] = (0.1, 0.3)
    p: _P = 0.5


def _either(number: Need, pair: Need) -> Need:
    return Need(
        f"{number.words}, or {pair.words}",
        lambda value: (pair if isinstance(value, tuple) else number).holds(value),
    )


def _number_or_pair(low: float = -math.inf, high: float = math.inf) -> Any:
    return Annotated[_Side, _either(between(low, high), span(low, high))]


def _per_axis(side: Any, number: Need, pair: Need) -> Any:
    """Return the type of a number or a range for both axes, or of one for each of x and y."""
    either = _either(number, pair)

    def holds(value: Any) -> bool:
        if isinstance(value, dict):
            return len(value) > 0 and all(map(either.holds, value.values()))
        return either.holds(value)

    need = Need(f"{either.words}, or these for each axis as {{x: ..., y: ...}}", holds)
    return Annotated[side | dict[Literal["x", "y"], side], need]


def _sides(ordered: Callable[[float, float], bool]) -> Need:
    """Return the need of what is added (below 0: cut off) at all sides, or at each of four."""

    def holds(value: Any) -> bool:
        if not isinstance(value, tuple):
            return True
        alike = len({isinstance(side, tuple) for side in value}) == 1
        return ordered(*value) if len(value) == 2 else alike and all(map(holds, value))

    words = "a number, [low, high], or four of the one or the other: top, right, bottom, left"
    return Need(words, holds)


def _kernel(smallest: int) -> Any:
    """Return the type of a kernel's side: an odd number of pixels, or a range of them."""

    def holds(value: Any) -> bool:
        low, high = value if isinstance(value, tuple) else (smallest, value)
        return smallest <= low <= high and all(px % 2 == 1 or px == 0 for px in (low, high))

    words = f"an odd whole number of at least {max(smallest, 1)}, or [low, high] of such"
    return Annotated[_WholeSide, Need(words, holds)]


def _flags(names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(), Annotated[bool, Need("true or false")])


def _fills(value: Any) -> bool:
    values = value if isinstance(value, tuple) else (value,)
    return all(isinstance(each, str) or 0.0 <= each <= 255.0 for each in values)


_SHARES = Annotated[_Pair, span(0.0, 1.0)]
_POSITIVE = Annotated[_Pair, span(0.0)]
_FILL = Annotated[
    float | Annotated[tuple[float, ...], LISTED],
    Need("a number from 0 to 255, or one for each channel", _fills),
]
_HOLE = Annotated[
    _FILL | Literal["random", "random_uniform", "inpaint_telea", "inpaint_ns"],
    Need("a number or one for each channel, random, random_uniform, inpaint_telea or inpaint_ns"),
]
# By OpenCV's numbers: INTER_NEAREST to INTER_LANCZOS4, the exact kinds, BORDER_CONSTANT to _101.
_SMOOTH = {"interpolation": Annotated[int, whole(0, 4)]}
_EXACT = {"interpolation": Annotated[int, whole(0, 6)]}
_BORDER = {"border_mode": Annotated[int, whole(0, 4)], "fill": _FILL}
_TURN = _SMOOTH | _BORDER | {"rotate_method": Literal["largest_box", "ellipse"]}

# Each with its arguments but for `p`.
_ARGUMENTS: Mapping[str, Mapping[str, Any]] = {
    # geometric
    "Affine": {
        "scale": _per_axis(_Side, between(0.0, above=True), span(0.0, above=True)),
        "translate_percent": _per_axis(_Side, between(), span()),
        "translate_px": _per_axis(_WholeSide, between(), span()),
        "rotate": _number_or_pair(),
        "shear": _per_axis(_Side, between(), span()),
    }
    | _TURN
    | _flags("fit_output keep_ratio balanced_scale"),
    "Rotate": {"limit": _number_or_pair()} | _TURN | _flags("crop_border"),
    "RandomRotate90": {},
    "Transpose": {},
    "Perspective": {"scale": _number_or_pair(0.0)}
    | _SMOOTH
    | _BORDER
    | _flags("keep_size fit_output"),
    "HorizontalFlip": {},
    "VerticalFlip": {},
    "RandomResizedCrop": {
        "scale": Annotated[_Pair, span(0.0, 1.0, above=True)],
        "ratio": Annotated[_Pair, span(0.0, above=True)],
        "area_for_downscale": Literal["image", "image_mask"],
    }
    | _EXACT,
    "CropAndPad": {
        "px": Annotated[
            _WholeSide | Annotated[tuple[_WholeSide, _WholeSide, _WholeSide, _WholeSide], LISTED],
            _sides(operator.lt),
        ],
        "percent": Annotated[
            _Side | Annotated[tuple[_Side, _Side, _Side, _Side], LISTED], _sides(operator.le)
        ],
    }
    | _EXACT
    | _BORDER
    | _flags("keep_size sample_independently"),
    "ElasticTransform": {
        "alpha": Annotated[float, between(0.0)],
        "sigma": Annotated[float, between(1.0)],
        "noise_distribution": Literal["gaussian", "uniform"],
    }
    | _SMOOTH
    | _BORDER
    | _flags("approximate same_dxdy"),
    "GridDistortion": {
        "num_steps": Annotated[int, whole(1)],
        "distort_limit": _number_or_pair(-1.0, 1.0),
    }
    | _SMOOTH
    | _BORDER
    | _flags("normalized"),
    # photometric
    "GaussNoise": {
        "std_range": _SHARES,
        "mean_range": Annotated[_Pair, span(-1.0, 1.0)],
        "noise_scale_factor": Annotated[float, between(0.0, 1.0, above=True)],
    }
    | _flags("per_channel"),
    "ISONoise": {"color_shift": _SHARES, "intensity": _POSITIVE},
    "ShotNoise": {"scale_range": _POSITIVE},
    "SaltAndPepper": {"amount": _SHARES, "salt_vs_pepper": _SHARES},
    "MultiplicativeNoise": {"multiplier": _POSITIVE} | _flags("per_channel elementwise"),
    "RandomBrightnessContrast": {
        "brightness_limit": _number_or_pair(),
        "contrast_limit": _number_or_pair(),
    }
    | _flags("brightness_by_max ensure_safe_range"),
    "RandomGamma": {"gamma_limit": _number_or_pair(1.0)},
    "ColorJitter": {
        "brightness": _number_or_pair(0.0),
        "contrast": _number_or_pair(0.0),
        "saturation": _number_or_pair(0.0),
        "hue": Annotated[_Side, _either(between(0.0, 0.5), span(-0.5, 0.5))],
    },
    "HueSaturationValue": {
        "hue_shift_limit": _number_or_pair(),
        "sat_shift_limit": _number_or_pair(),
        "val_shift_limit": _number_or_pair(),
    },
    "GaussianBlur": {"blur_limit": _kernel(0), "sigma_limit": _number_or_pair(0.0)},
    "MotionBlur": {
        "blur_limit": _kernel(3),
        "angle_range": Annotated[_Pair, span(0.0, 360.0)],
        "direction_range": Annotated[_Pair, span(-1.0, 1.0)],
    }
    | _flags("allow_shifted"),
    "MedianBlur": {"blur_limit": _kernel(3)},
    "Sharpen": {
        "alpha": _SHARES,
        "lightness": _POSITIVE,
        "method": Literal["kernel", "gaussian"],
        "kernel_size": Annotated[
            int, Need("an odd whole number of at least 3", lambda px: px >= 3 and px % 2 == 1)
        ],
        "sigma": Annotated[float, between(0.0, above=True)],
    },
    "ImageCompression": {
        "compression_type": Literal["jpeg", "webp"],
        "quality_range": Annotated[_WholePair, span(1, 100)],
    },
    "CoarseDropout": {
        "num_holes_range": Annotated[_WholePair, span(1)],
        "hole_height_range": _POSITIVE,
        "hole_width_range": _POSITIVE,
        "fill": _HOLE,
    },
}


def _define(name: str, arguments: Mapping[str, Any]) -> type[Transform]:
    fields: Any = {argument: (kind, None) for argument, kind in {**arguments, "p": _P}.items()}
    return create_model(name, __base__=Transform, __module__=__name__, **fields)


TRANSFORMS: Mapping[str, type[Transform]] = {
    **{name: _define(name, arguments) for name, arguments in _ARGUMENTS.items()},
    Superimpose.key: Superimpose,
}
globals().update(TRANSFORMS)  # where pickle looks for them, on the way to worker processes

Policy = Annotated[
    tuple[Annotated[Transform, Keyed("transform", tuple(TRANSFORMS.values()))], ...], LISTED
]
