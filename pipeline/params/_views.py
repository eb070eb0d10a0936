"""The views of test-time augmentation: names, arguments, and what each argument may be.

A literal table, so that a mistake is found before torch is imported. The same rules hold for the
views in params.yaml and for those that a model bundle carries, but for `random`: there one item
stands for several draws, here each draw is a view of its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import did_you_mean
from pipeline.params._augmentations import AUGMENTATIONS, check_items
from pipeline.params._rules import Rule, Rules, between, check_keys

_POLICY = Rule(
    lambda value: isinstance(value, list | tuple) and len(value) > 0,
    "a list of albumentations transforms, as in balance.policy",
)
_DRAWS = Rule(
    lambda value: type(value) is int and 1 <= value <= 100, "a whole number from 1 to 100"
)
_DRAW = Rule(lambda value: type(value) is int and value >= 0, "a whole number from 0")

# Beyond these bounds nothing, or nothing but border, is left of the image.
VIEWS: Mapping[str, Rules] = {
    "identity": {},
    "hflip": {},
    "vflip": {},
    "shift": {"x": between(-0.5, 0.5), "y": between(-0.5, 0.5)},
    "rotate": {"degrees": between(-180.0, 180.0)},
    "scale": {"factor": between(0.25, 4.0)},
    "crop": {"share": between(0.25, 1.0), "x": between(-1.0, 1.0), "y": between(-1.0, 1.0)},
    "random": {"draws": _DRAWS, "policy": _POLICY},
}
_CARRIED: Mapping[str, Rules] = {**VIEWS, "random": {"draw": _DRAW, "policy": _POLICY}}

# Blends in a training image of the same class; whoever predicts has neither.
_NEEDS_CLASSES = "Superimpose"
_TRANSFORMS = {name: args for name, args in AUGMENTATIONS.items() if name != _NEEDS_CLASSES}


def check_views(items: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """List the mistakes in tta.views of params.yaml, each starting with its place below it."""
    return [mistake for i, item in enumerate(items) for mistake in _check(f"[{i}]", item, VIEWS)]


def count_views(items: Sequence[Mapping[str, Mapping[str, Any]]]) -> int:
    """Count the views that valid items of tta.views stand for: each draw is one."""
    return sum(item.get("random", {}).get("draws", 1) for item in items)


def check_carried_views(items: Any) -> list[str]:
    """List the mistakes in the views of a bundle, each starting with its place below them."""
    if not isinstance(items, list) or not items:
        return [": need a list of views"]
    return [m for i, item in enumerate(items) for m in _check(f"[{i}]", item, _CARRIED)]


def _check(place: str, item: Any, table: Mapping[str, Rules]) -> list[str]:
    if not isinstance(item, Mapping) or len(item) != 1:
        given = (", ".join(map(str, item)) if isinstance(item, Mapping) else str(item)) or "none"
        return [f"{place}: need one view per item, found {given}"]
    ((name, arguments),) = item.items()
    if name not in table:
        valid = f"(valid: {', '.join(table)})"
        return [f"{place}: unknown view {name}{did_you_mean(name, table)} {valid}"]
    rules = table[name]
    place = f"{place}.{name}"
    mistakes = check_keys(place, "", arguments, rules, required=tuple(rules))
    if mistakes or name != "random":
        return mistakes
    return [f"{place}.policy{mistake}" for mistake in _check_policy(arguments["policy"])]


def _check_policy(policy: Sequence[Any]) -> list[str]:
    for position, item in enumerate(policy):
        if not isinstance(item, Mapping) or not all(isinstance(v, Mapping) for v in item.values()):
            return [f"[{position}]: need a transform such as 'Rotate: {{limit: 5}}', found {item}"]
        if _NEEDS_CLASSES in item:
            needs = "blends in training images of the class, which is not known here; leave it out"
            return [f"[{position}].{_NEEDS_CLASSES}: {needs}"]
    return check_items(policy, _TRANSFORMS, "transform")
