"""Rules for the keys of a free mapping, where no typed section fits."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import did_you_mean


@dataclass(frozen=True)
class Rule:
    """What a value must be, as a test and in words."""

    holds: Callable[[Any], bool]
    words: str


def one_of(names: tuple[str, ...]) -> Rule:
    """Return the rule that a value is one of `names`."""
    return Rule(lambda value: value in names, f"{', '.join(names[:-1])} or {names[-1]}")


def between(low: float, high: float) -> Rule:
    """Return the rule that a value is a number from `low` to `high`."""
    # True is a number to Python, NaN fails both comparisons.
    return Rule(
        lambda value: (
            isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        ),
        f"a number from {low:g} to {high:g}",
    )


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value < 1.0


COUNT = Rule(lambda value: type(value) is int and value >= 1, "a whole number of at least 1")
FLAG = Rule(lambda value: isinstance(value, bool), "true or false")
SHARE = Rule(_is_share, "a number of at least 0 and less than 1")

Rules = Mapping[str, Rule]


def check_keys(
    place: str, called: str, item: Any, rules: Rules, required: tuple[str, ...] = ()
) -> list[str]:
    """List the mistakes in one mapping: keys unknown or missing, values that break their rule.

    Args:
        place: of the mapping, such as '.blocks[1]'; each mistake starts with it.
        called: what people call that place, such as ' (block 2)', or ''.
        item: what the file has there.
        rules: of the valid keys.
        required: keys that must be there.
    """
    if not isinstance(item, Mapping):
        return [f"{place}{called}: got {_quote(item)}, need a mapping with {', '.join(required)}"]
    mistakes = [f"{place}.{key}{called}: missing, add it" for key in required if key not in item]
    for key, value in item.items():
        if key not in rules:
            nearest = did_you_mean(key, rules)
            valid = f"(valid: {', '.join(rules) or 'none'})"
            mistakes.append(f"{place}.{key}{called}: unknown key{nearest} {valid}")
        elif not rules[key].holds(value):
            mistakes.append(f"{place}.{key}{called}: got {_quote(value)}, need {rules[key].words}")
    return mistakes


def _quote(value: Any) -> str:
    return json.dumps(value, default=str)
