"""Recipes as params.yaml would state them, for a person to copy and to edit."""

from collections.abc import Mapping
from typing import Any

import yaml

_WIDTH = 84


def params_form(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Return YAML of the sections 'train' and 'finetune', and of a recipe that takes them."""
    custom = {"recipe": {"name": "custom", "budget": None, "mirror": "auto"}}
    parts = [
        yaml.safe_dump(
            {name: {key: _name_first(value) for key, value in section.items()}},
            sort_keys=False,
            default_flow_style=None,
            width=_WIDTH,
        )
        for name, section in {**custom, **sections}.items()
    ]
    return "\n".join(parts)


def _name_first(value: Any) -> Any:
    """Return a choice with its name before its options."""
    if not isinstance(value, Mapping) or "name" not in value:
        return value
    return {"name": value["name"], **value}


def in_words(seconds: float) -> str:
    """Return a time as people say it: 45 s, 10 min, 1.5 h."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.{0 if seconds >= 10 * size else 1}f} {unit}"
    return f"{seconds:.0f} s"
