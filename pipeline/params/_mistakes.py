"""What pydantic finds wrong in a document, in words: 'key: got this, need that'.

A finding's place is found by walking the schema along its location, for pydantic puts more into
a location than keys of the document: the names of the branches of unions.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import did_you_mean
from pipeline.params._types import Choice, Keyed, Need

_QUOTED_AT_MOST = 60  # characters of a value
_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
_MAPPINGS = {"dict_type", "model_type", "model_attributes_type", "dataclass_type"}
_ABSENT = object()


class MistakesError(ValueError):
    """All that is wrong with a document: its arguments are the mistakes, each with its place."""

    def __str__(self) -> str:
        return "; ".join(self.args)


def parse(schema: Any, document: Any) -> Any:
    """Return `document` as what `schema` describes.

    Args:
        schema: a section, or an annotation.
        document: plain values, as YAML and JSON have them.

    Raises:
        MistakesError: it is not.
    """
    try:
        # JSON mode keeps the types strict and still takes a list for a tuple.
        return _adapter(schema).validate_json(json.dumps(document, default=str))
    except ValidationError as error:
        found = [
            m for item in error.errors(include_url=False) for m in _say(item, document, schema)
        ]
        # Each branch of a union finds the same.
        raise MistakesError(*dict.fromkeys(found)) from error


@cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    return TypeAdapter(schema)


@dataclass(frozen=True)
class _Kind:
    """What the schema says of a value.

    Attributes:
        members: the branches of a union but for None; of anything else, itself.
        notes: the metadata of the annotation.
    """

    members: tuple[Any, ...] = ()
    notes: tuple[Any, ...] = ()

    @staticmethod
    def of(annotation: Any, notes: Sequence[Any] = ()) -> "_Kind":
        """Read an annotation; `notes` holds metadata that stands beside it."""
        if get_origin(annotation) is Annotated:
            inner, *own = get_args(annotation)
            return _Kind.of(inner, [*own, *notes])
        if get_origin(annotation) in (Union, UnionType):
            members = tuple(part for part in get_args(annotation) if part is not NoneType)
            return (
                _Kind.of(members[0], notes) if len(members) == 1 else _Kind(members, tuple(notes))
            )
        return _Kind((annotation,), tuple(notes))

    @property
    def choice(self) -> Choice | None:
        """How one of several sections is chosen, if that is so."""
        return next((note for note in self.notes if isinstance(note, Choice)), None)

    @property
    def choices(self) -> tuple[Any, ...]:
        """The names of the sections, or the words of a Literal."""
        if self.choice:
            return tuple(self.choice.of(self.members))
        words = len(self.members) == 1 and get_origin(self.members[0]) is Literal
        return get_args(self.members[0]) if words else ()

    @property
    def need(self) -> str | None:
        """The words for all that may be wrong here."""
        return next((note.words for note in self.notes if isinstance(note, Need)), None)

    @property
    def fields(self) -> dict[Any, "_Kind"]:
        """What a section says of its keys, as the document has them; none if it is no section."""
        found = getattr(self.members[0], "__pydantic_fields__", {}) if self.members else {}
        return {
            field.alias or name: _Kind.of(field.annotation, field.metadata)
            for name, field in found.items()
        }

    def item(self) -> "_Kind":
        """Return what is said of each value of a list or of a free mapping."""
        inner = [part for part in get_args(self.members[0]) if part is not ...]
        return _Kind.of(inner[-1]) if inner else _Kind()


@dataclass(frozen=True)
class _Place:
    """Where in the document a finding stands.

    Attributes:
        keys: from the top; numbers count the items of lists.
        kind: what the schema says of the value there.
        around: what it says of the section that holds it.
        value: what the document says there, or _ABSENT.
    """

    keys: tuple[str | int, ...]
    kind: _Kind
    around: _Kind
    value: Any

    def __str__(self) -> str:
        parts = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.keys)
        return "".join(parts).removeprefix(".")


def _find(location: Sequence[str | int], document: Any, schema: Any) -> _Place:
    """Walk from the top along a location of pydantic's to what the document has there."""
    keys: list[str | int] = []
    kind, value = _Kind.of(schema), document
    around = kind
    for part in location:
        if kind.choice:
            section = _Kind.of(kind.choice.of(kind.members)[str(part)])
            if isinstance(kind.choice, Keyed):
                keys.append(part)
                value = value[part]
            kind = section
            continue
        fields = kind.fields
        if len(kind.members) != 1 or (kind.need and not fields):
            break  # one sentence stands for all that is wrong in here
        keys.append(part)
        value = _look_up(value, part)
        around, kind = kind, fields.get(part, _Kind()) if fields else kind.item()
    return _Place(tuple(keys), kind, around, value)


def _look_up(value: Any, key: str | int) -> Any:
    try:
        return value[key]
    except (KeyError, IndexError, TypeError):
        return _ABSENT


def _say(item: Any, document: Any, schema: Any) -> Iterator[str]:
    """Turn one finding into the mistakes that it stands for."""
    place, type_, context = _find(item["loc"], document, schema), item["type"], item.get("ctx", {})
    kind, value = place.kind, place.value
    if type_ == "value_error":
        for mistake in context["error"].args:
            yield f"{place}{'' if mistake[0] in '.[' or not place.keys else ': '}{mistake}"
    elif type_ in ("extra_forbidden", "unexpected_keyword_argument"):
        known = [str(key) for key in place.around.fields]
        nearest = did_you_mean(str(place.keys[-1]), known)
        yield f"{place}: unknown key{nearest or ', valid: ' + (', '.join(known) or 'none')}"
    elif value is _ABSENT:
        yield f"{place}: missing, add it"
    elif type_ in ("union_tag_not_found", "union_tag_invalid"):
        yield _no_member(place)
    elif kind.choices and type_ == "literal_error":
        yield f"{place}: {_no_choice(value, kind.choices)}"
    elif type_ != "too_short" or len(item["input"]) < context["min_length"]:
        # Otherwise pydantic counts only the right items, and the wrong ones are reported already.
        yield f"{place}: got {_quote(value)}, need {_need(place, item)}"


def _no_member(place: _Place) -> str:
    """Say why none of several sections is chosen."""
    choice, names, value = place.kind.choice, place.kind.choices, place.value
    assert choice
    if not isinstance(choice, Keyed):
        if "name" not in value:
            return f"{place}.name: missing, add {_either(names)}"
        name = value["name"]
        if not choice.kind or not isinstance(name, str):
            return f"{place}.name: {_no_choice(name, names)}"
        return f"{place}.name: {_unknown(choice.kind, name, names)}"
    if not isinstance(value, dict):
        example = f"{{{names[0]}: {{}}}}"
        return f"{place}: got {_quote(value)}, need a mapping of keys to values, such as {example}"
    if len(value) != 1:
        return f"{place}: need one {choice.kind} per item, found {', '.join(value) or 'none'}"
    return f"{place}: {_unknown(choice.kind, next(iter(value)), names)}"


def _need(place: _Place, item: Any) -> str:
    """Say what a value must be."""
    context = item.get("ctx", {})
    if place.kind.need:
        return place.kind.need
    if item["type"] in _MAPPINGS:
        names = place.kind.choices
        return f"a mapping with name: {_either(names)}" if names else "a mapping of keys to values"
    if item["type"] == "tuple_type":
        return "a list"
    if "min_length" in context:
        what = "character" if isinstance(place.value, str) else "item"
        return f"at least {context['min_length']} {what}{'s' * (context['min_length'] > 1)}"
    for name, words in _LIMITS.items():
        if name in context:
            return f"{words} {context[name]:.10g}"
    return str(item["msg"]).removeprefix("Input should be ")


def _unknown(kind: str, name: str, names: Sequence[str]) -> str:
    return f"unknown {kind} {name}{did_you_mean(name, names)} (valid: {', '.join(names)})"


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
