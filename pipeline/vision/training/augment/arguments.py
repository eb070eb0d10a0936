"""Which values the arguments of each augmentation may have."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Need:
    """What an argument may be: in words, and as a question."""

    words: str
    admits: Callable[[Any], bool]


def needs(shape: tuple[int, int, int]) -> dict[str, dict[str, Need]]:
    """Return what each argument of each augmentation needs to be.

    Args:
        shape: height, width and channels of the images.
    """
    height, width, channels = shape
    return {
        "hflip": {"p": _number(0.0, 1.0)},
        "vflip": {"p": _number(0.0, 1.0)},
        "crop": {"padding": _whole(0, min(height, width) // 2)},
        "affine": {
            "degrees": _number(0.0, 180.0),
            "translate": _number(0.0, 0.5),
            "scale": _range(0.1, 10.0),
            "shear": _number(0.0, 60.0),
        },
        "color": {
            "brightness": _number(0.0, 1.0),
            "contrast": _number(0.0, 1.0),
            "saturation": _in_colour(1.0, channels),
            "hue": _in_colour(0.5, channels),
        },
        "noise": {"std": _number(0.0, 1.0)},
        "erase": {"p": _number(0.0, 1.0), "area": _range(0.001, 1.0)},
    }


def mistakes(place: str, arguments: Mapping[str, Any], needed: Mapping[str, Need]) -> list[str]:
    """List what is wrong with the values of one augmentation, each after `place` and its name."""
    found = []
    for argument, need in needed.items():
        if argument not in arguments:
            found.append(f"{place}.{argument}: missing, add {need.words}")
        elif not need.admits(arguments[argument]):
            found.append(f"{place}.{argument}: got {arguments[argument]}, need {need.words}")
    return found


def _number(low: float, high: float) -> Need:
    return Need(f"a number from {low:g} to {high:g}", lambda value: _within(low, value, high))


def _in_colour(high: float, channels: int) -> Need:
    """Let nobody ask for what has no effect: one channel has neither saturation nor hue."""
    if channels == 3:
        return _number(0.0, high)
    return Need("0, for the images have one channel", lambda value: _within(0.0, value, 0.0))


def _whole(low: int, high: int) -> Need:
    return Need(
        f"a whole number from {low} to {high}",
        lambda value: isinstance(value, int) and _within(low, value, high),
    )


def _range(low: float, high: float) -> Need:
    return Need(
        f"[low, high] with {low:g} <= low <= high <= {high:g}",
        lambda value: (
            isinstance(value, list | tuple)
            and len(value) == 2
            and _within(low, value[0], high)
            and _within(value[0], value[1], high)
        ),
    )


def _within(low: float, value: object, high: float) -> bool:
    # True is a number to Python, NaN fails both comparisons.
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
