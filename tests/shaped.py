"""Reports made up from their shapes, for tests of those who read only a part of them."""

from typing import Any

from pipeline.evaluation.reports.schema import Each, Maybe

_VALUES = {str: "text", bool: True, int: 1, float: 0.5, type(None): None}


def made_up(shape: Any) -> Any:
    """Return a value of this shape: lists as short as may be, and null where that may be."""
    if isinstance(shape, tuple):
        return _VALUES[shape[-1]]
    if isinstance(shape, Maybe):
        return None
    if isinstance(shape, Each):
        items = [made_up(shape.shape) for _ in range(shape.least)]
        return items if shape.kind is list else {f"item {i}": item for i, item in enumerate(items)}
    return {key: made_up(inner) for key, inner in shape.items()}
