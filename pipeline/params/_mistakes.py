"""What pydantic finds wrong in params.yaml, in words: 'key: got this, need that'.

A finding's place is told by walking the schema along its location, for pydantic puts more into
a location than keys of the file: the names of the branches of unions.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pipeline.errors import did_you_mean

_QUOTED_AT_MOST = 60  # characters of a value
_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
_ABSENT = object()


@dataclass(frozen=True)
class _Place:
    """Where in the file a finding stands.

    Attributes:
        keys: from the top; numbers count the items of lists.
        section: the innermost one that holds it.
        field: what the section says of it; None beneath lists and free mappings, and for a key
            that the section does not know.
        value: what the file says there, or _ABSENT.
    """

    keys: tuple[str | int, ...]
    section: type[BaseModel]
    field: FieldInfo | None
    value: Any

    def __str__(self) -> str:
        parts = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.keys)
        return "".join(parts).removeprefix(".")


def mistakes(
    error: ValidationError, document: Mapping[str, Any], schema: type[BaseModel]
) -> list[str]:
    """List what is wrong in `document` by `schema`, each mistake once."""
    found = [m for item in error.errors(include_url=False) for m in _tell(item, document, schema)]
    return list(dict.fromkeys(found))  # each branch of a union finds the same


def _tell(item: Any, document: Mapping[str, Any], schema: type[BaseModel]) -> Iterator[str]:
    """Turn one finding into the mistakes that it stands for."""
    place, kind, context = _find(item["loc"], document, schema), item["type"], item.get("ctx", {})
    if kind == "value_error":
        for mistake in context["error"].args:
            yield f"{place}{'' if mistake[0] in '.[' else ': '}{mistake}"
    elif kind == "extra_forbidden":
        known = [str(key) for key in _fields(place.section)]
        nearest = did_you_mean(str(place.keys[-1]), known)
        yield f"{place}: unknown key{nearest or ', valid: ' + ', '.join(known)}"
    elif place.value is _ABSENT:
        yield f"{place}: missing, add it"
    elif kind == "union_tag_not_found":
        yield f"{place}.name: missing, add {_either(_choices(place.field))}"
    elif kind == "union_tag_invalid":
        yield f"{place}.name: {_no_choice(place.value['name'], _choices(place.field))}"
    elif _choices(place.field) and kind == "literal_error":
        yield f"{place}: {_no_choice(place.value, _choices(place.field))}"
    elif kind != "too_short" or len(item["input"]) < context["min_length"]:
        # Otherwise pydantic counts only the right items, and has told of the wrong ones.
        yield f"{place}: got {_quote(place.value)}, need {_need(place, item)}"


def _need(place: _Place, item: Any) -> str:
    """Say what a value must be."""
    context = item.get("ctx", {})
    if place.field and place.field.description:
        return place.field.description
    if item["type"] in {"dict_type", "model_type"}:
        names = _choices(place.field)
        return f"a mapping with name: {_either(names)}" if names else "a mapping of keys to values"
    if item["type"] == "tuple_type":
        return "a list"
    if "min_length" in context:
        what = "character" if isinstance(place.value, str) else "item"
        return f"at least {context['min_length']} {what}{'s' * (context['min_length'] > 1)}"
    for name, words in _LIMITS.items():
        if name in context:
            return f"{words} {context[name]:g}"
    return str(item["msg"]).removeprefix("Input should be ")


def _find(
    location: Sequence[str | int], document: Mapping[str, Any], schema: type[BaseModel]
) -> _Place:
    """Walk from the top along a location of pydantic's to what the file has there."""
    keys: list[str | int] = []
    section, field, value = schema, None, document
    annotation: Any = schema
    for part in location:
        members = _members(annotation)
        if len(members) > 1:
            if not (field and field.discriminator):
                break  # the value fits no branch: the mistake is that of them all
            annotation = next(member for member in members if part in _names(member))
            continue
        keys.append(part)
        value = _look_up(value, part)
        annotation, field = members[0], None
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            section = annotation
            field = _fields(section).get(part)
        annotation = field.annotation if field else None
    return _Place(tuple(keys), section, field, value)


def _look_up(value: Any, key: str | int) -> Any:
    try:
        return value[key]
    except (KeyError, IndexError):
        return _ABSENT


def _fields(section: type[BaseModel]) -> dict[str | int, FieldInfo]:
    """Return the fields of a section by the keys that the file has for them."""
    return {field.alias or name: field for name, field in section.model_fields.items()}


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the branches of a union but for None; of anything else, itself."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return tuple(member for member in get_args(annotation) if member is not NoneType)
    return (annotation,)


def _choices(field: FieldInfo | None) -> tuple[Any, ...]:
    """Return the words that a field takes, or those that the name in it takes."""
    if field is None:
        return ()
    if field.discriminator:
        return tuple(name for member in _members(field.annotation) for name in _names(member))
    return get_args(field.annotation) if get_origin(field.annotation) is Literal else ()


def _names(section: type[BaseModel]) -> tuple[Any, ...]:
    """Return the words that the key `name` takes in a section."""
    return get_args(section.model_fields["name"].annotation)


def _no_choice(value: Any, choices: Sequence[Any]) -> str:
    nearest = did_you_mean(value, map(str, choices)) if isinstance(value, str) else ""
    return f"got {_quote(value)}, need {_either(choices)}{nearest}"


def _either(choices: Sequence[Any]) -> str:
    """Join as 'a, b or c'."""
    words = list(map(str, choices))
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _quote(value: Any) -> str:
    """Write a value as JSON, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _QUOTED_AT_MOST else f"{text[:_QUOTED_AT_MOST]}…"
