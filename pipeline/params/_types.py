"""The types that params.yaml is made of."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    Strict,
    Tag,
    model_serializer,
)

# Larger whole numbers fit no array and no tensor.
_MOST = 2**31 - 1

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]


def _on_one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"holds {text!a}, need text without control characters")
    return text


# Beyond it a value says nothing that a smaller one does not, or overflows.
Bounded = Annotated[float, Field(ge=0.0, le=1e3)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Count = Annotated[int, Field(ge=1, le=_MOST)]
CountOrZero = Annotated[int, Field(ge=0, le=_MOST)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Name = Annotated[str, Field(min_length=1), AfterValidator(_on_one_line)]
# Beside a tuple: a list is taken for it, from Python as from JSON.
LISTED = Strict(False)

T = TypeVar("T")
# Height, width, channels.
Shape = tuple[int, int, int]


class Section(BaseModel):
    """A frozen section that knows each of its keys."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        protected_namespaces=(),
        defer_build=True,  # most are built as parts of others only
    )


class Given(Section):
    """Arguments that are written out as they were given, without those that were left out."""

    @model_serializer(mode="wrap")
    def _given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {
            name: value for name, value in handler(self).items() if name in self.model_fields_set
        }


class Option(Section):
    """What a list names item by item, as '- crop: {padding: 4}'; see `Keyed`.

    Attributes:
        key: its name in the list.
    """

    key: ClassVar[str]

    def misfits(self, shape: Shape) -> Iterable[str]:  # noqa: ARG002
        """List what does not suit images of a shape, each mistake after its place in the item."""
        return ()


def misfits(items: Iterable[Option], shape: Shape) -> list[str]:
    """List which items do not suit images of a shape, as '[1].crop.padding: got 9, need ...'."""
    return [f"[{i}].{item.key}{m}" for i, item in enumerate(items) for m in item.misfits(shape)]


def refuse(value: T, mistakes: list[str]) -> T:
    """Return `value`, or raise all `mistakes` in one error that pydantic collects.

    A mistake that starts with '.' or '[' goes on with the key of the value.
    """
    if mistakes:
        raise ValueError(*mistakes)
    return value


# What follows is metadata of annotations. `_mistakes` reads it as well, to put errors in words.


@dataclass(frozen=True)
class Need:
    """What a value must be: a test beyond its type, and words for both.

    All that is wrong with the value, or inside it, is reported as one mistake in these words. In
    a section with keys of its own the keys are reported instead.
    """

    words: str
    holds: Callable[[Any], bool] = lambda _: True

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return AfterValidator(self._check).__get_pydantic_core_schema__(source, handler)

    def _check(self, value: Any) -> Any:
        if not self.holds(value):
            raise AssertionError  # a kind of error of its own: `refuse` raises ValueErrors
        return value


def between(
    low: float = -math.inf, high: float = math.inf, *, above: bool = False, noun: str = "a number"
) -> Need:
    """Return the need of a number in [low, high], or in (low, high] with `above`."""
    if math.isfinite(low) and math.isfinite(high):
        limits = f" above {low:g}, up to {high:g}" if above else f" from {low:g} to {high:g}"
    else:
        limits = f" {'above' if above else 'of at least'} {low:g}" * math.isfinite(low)
    return Need(noun + limits, lambda value: low <= value <= high and not (above and value == low))


def whole(low: int, high: float = math.inf) -> Need:
    """Return the need of a whole number in [low, high], and in no case one of ten digits."""
    need = between(low, high, noun="a whole number")
    return Need(need.words, lambda value: need.holds(value) and value <= _MOST)


def span(low: float = -math.inf, high: float = math.inf, *, above: bool = False) -> Need:
    """Return the need of two numbers in [low, high], the smaller first; `above` as `between`."""
    number = between(low, high, above=above)
    lower = f"{low:g} {'<' if above else '<='} " if math.isfinite(low) else ""
    upper = f" <= {high:g}" if math.isfinite(high) else ""
    return Need(
        f"[low, high] with {lower}low <= high{upper}",
        lambda pair: pair[0] <= pair[1] and all(map(number.holds, pair)),
    )


@dataclass(frozen=True)
class Choice:
    """One of several sections.

    Attributes:
        kind: what one is called in messages.
        members: the sections; None takes those of the union that this annotates.
    """

    kind: str = ""
    members: tuple[type[Section], ...] | None = None

    def of(self, branches: tuple[type[Section], ...]) -> Mapping[str, type[Section]]:
        """Return the sections by the names that choose them, given the annotated union's."""
        return {name: section for section in self.members or branches for name in _names(section)}


class Named(Choice):
    """Chosen by the key `name`: 'loss: {name: focal, gamma: 2.0}'.

    An option that only another choice has may stay beside the name, and is left out of the
    result: `dvc exp run -S train.schedule.name=one_cycle` cannot take away the `warmup_epochs` of
    the schedule that stood there. A key that no choice has is a mistake.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        sections = self.of(get_args(source))
        options = {key for section in sections.values() for key in section.model_fields}

        def without_others(value: Any) -> Any:
            name = value.get("name") if isinstance(value, dict) else None
            if not isinstance(name, str) or name not in sections:
                return value
            others = options.difference(sections[name].model_fields)
            return {key: option for key, option in value.items() if key not in others}

        union: Any = Union[tuple(dict.fromkeys(sections.values()))]  # noqa: UP007 - not written out
        by_name = Annotated[union, Field(discriminator="name"), BeforeValidator(without_others)]
        return handler.generate_schema(by_name)


class Keyed(Choice):
    """Chosen by the only key of an item: '- crop: {padding: 4}'. For options."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        options = self.of(get_args(source)).items()
        tagged = [
            Annotated[o, BeforeValidator(partial(_below, key)), Tag(key)] for key, o in options
        ]
        union: Any = Union[tuple(tagged)]  # noqa: UP007 - not written out
        by_key = Annotated[union, Discriminator(_key_of), PlainSerializer(_with_key)]
        return handler.generate_schema(by_key)


def _key_of(item: Any) -> Any:
    if isinstance(item, dict):
        return next(iter(item)) if len(item) == 1 else None
    return getattr(item, "key", None)


def _with_key(option: Option, info: SerializationInfo) -> dict[str, Any]:
    return {option.key: option.model_dump(mode=info.mode)}


def _below(key: str, item: Any) -> Any:
    return item[key] if isinstance(item, dict) else item


def _names(section: type[Section]) -> tuple[str, ...]:
    """Return the names that choose a section."""
    if issubclass(section, Option):
        return (section.key,)
    return get_args(section.model_fields["name"].annotation)
