"""The types that params.yaml is made of."""

import json
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, Field(min_length=1)]

T = TypeVar("T")


def refuse(value: T, mistakes: list[str]) -> T:
    """Return `value`, or raise all `mistakes` in one error that pydantic collects.

    A mistake that starts with '.' or '[' goes on with the key of the value.
    """
    if mistakes:
        raise ValueError(*mistakes)
    return value


def _is_finite(value: JsonValue) -> JsonValue:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise ValueError("infinite or not a number, need finite numbers") from error
    return value


# What a network or an augmentation makes of a free argument is its own business.
Value = Annotated[JsonValue, AfterValidator(_is_finite)]
# A list of '- Name: {argument: value}', one name per item.
Items = tuple[dict[str, dict[str, Value]], ...]


class Section(BaseModel):
    """A frozen section that knows each of its keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )
