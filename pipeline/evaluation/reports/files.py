"""Reports as JSON files: what is damaged or edited by hand gives one line that says where."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipeline.errors import PipelineError
from pipeline.files import damaged, missing, write_json

R = TypeVar("R", bound=BaseModel)

# pydantic's kinds of errors, by what was expected. A bool is an int too, and comes first.
_EXPECTED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "dataclass_type": "an object",
}
_FOUND = {
    type(None): "null",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}


def write_report(path: Path, report: BaseModel) -> None:
    """Write a report as indented JSON, atomically."""
    write_json(path, report.model_dump(mode="json"))


def read_report(path: Path, model: type[R]) -> R:
    """Read a report that a stage wrote.

    Raises:
        PipelineError: the file is missing or damaged, lacks a key, or holds something of another
            type; says where.
    """
    try:
        return model.model_validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError as error:
        raise missing(path) from error
    except OSError as error:
        raise damaged(path, error) from error
    except ValidationError as error:
        raise _one_line(path, error.errors(include_url=False)[0]) from error


def _one_line(path: Path, found: ErrorDetails) -> PipelineError:
    place = ".".join(map(str, found["loc"]))
    if found["type"] == "missing":
        return PipelineError(f"{path} lacks {place}; delete it and run dvc repro")
    if found["type"] == "lacks":
        return PipelineError(f"{path} {found['msg']}; delete it and run dvc repro")
    return damaged(path, f"{place}: {_mistake(found)}" if place else _mistake(found))


def _mistake(found: ErrorDetails) -> str:
    kind, context, value = found["type"], found.get("ctx", {}), found["input"]
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, found {_kind_of(value)}"
    if kind == "too_short":
        return f"expected at least {context['min_length']} items, found {context['actual_length']}"
    if kind == "too_long":
        return f"expected at most {context['max_length']} items, found more"
    if kind == "literal_error":
        return f"expected {context['expected']}, found {value!r}"
    return found["msg"]


def _kind_of(value: Any) -> str:
    return next(name for kind, name in _FOUND.items() if isinstance(value, kind))
