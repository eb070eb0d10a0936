"""What reports look like: one that was edited by hand is told apart before it is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import damaged


@dataclass(frozen=True)
class Each:
    """The shape of every item of a list, or of every value of an object with any keys.

    Attributes:
        kind: list or dict.
        shape: of what is inside.
        least, most: how many there may be.
    """

    kind: type
    shape: Any
    least: int = 0
    most: int | None = None


@dataclass(frozen=True)
class Maybe:
    """A shape, or null.

    Attributes:
        shape: where there is something.
    """

    shape: Any


# A shape is a tuple of types, an Each, a Maybe, or an object with at least these keys.
_TEXT, _FLAG, _COUNT, _NUMBER = (str,), (bool,), (int,), (int, float)
_FIGURE = {"value": (int, float, type(None)), "ci95": Each(list, _NUMBER, 2, 2)}
_CLASS = dict.fromkeys(("precision", "recall", "f1", "average_precision"), _FIGURE)
_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "average_precision", "nll", "brier", "ece")
_CONFIDENCE = dict.fromkeys(("nll", "brier", "ece"), _FIGURE)
_DIFFERENCE = dict.fromkeys(_METRICS, _FIGURE) | {
    "mcnemar": {"only_first": _COUNT, "only_second": _COUNT, "p_value": _NUMBER}
}
_BLOCK = dict.fromkeys(_METRICS, _FIGURE) | {
    "images": _COUNT,
    "per_class": Each(dict, {"support": _COUNT} | _CLASS),
}
_CALIBRATION = {
    "images": _COUNT,
    "temperature": _FIGURE,
    "test": _CONFIDENCE,
    "change": _CONFIDENCE,
}
_MODEL = {"test": _BLOCK, "calibration": _CALIBRATION}
_CONFUSION = {"true": _TEXT, "predicted": _TEXT, "images": _COUNT, "share": _FIGURE}
_GAIN = {"gain": _DIFFERENCE, "mended": _COUNT, "spoiled": _COUNT}
_RUNG = _GAIN | {
    "views": Each(list, _TEXT, 1),
    "validation": _GAIN | {"macro_f1": _FIGURE},
    "test": _BLOCK,
    "cost": {"views_per_image": _COUNT, "images_per_s": _NUMBER},
}
_CHECK = {
    "name": _TEXT,
    "passed": _FLAG,
    "value": _NUMBER,
    "limit": _NUMBER,
    "reason": _TEXT,
}
_RECALLS = {
    "support": _COUNT,
    "candidate": _NUMBER,
    "champion": _NUMBER,
    "loss": _NUMBER,
    "interval": Each(list, _NUMBER, 2, 2),
}
_HEADLINE = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1", "nll", "ece"), _NUMBER)

# A bool is an int too, and therefore comes first.
_NAMES = {
    type(None): "null",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
}

HISTORY = Each(
    list,
    dict.fromkeys(("train_loss", "val_loss", "val_accuracy"), _NUMBER)
    | {"epoch": _COUNT, "kept": _FLAG},
    least=1,
)
# In register.json, where two models met; absent from what was settled before there were any.
FLIPS = Maybe(
    {
        "mended": _COUNT,
        "spoiled": _COUNT,
        "listed": Each(
            list,
            dict.fromkeys(("path", "true", "first", "second"), _TEXT)
            | {"row": _COUNT, "first_probability": _NUMBER, "second_probability": _NUMBER},
        ),
    }
)
REPORTS: dict[str, Any] = {
    "data": {
        "files": _COUNT,
        "usable": _COUNT,
        "problems": Each(dict, _COUNT),
        "left_out": Each(list, {"path": _TEXT, "problem": _TEXT}),
        "near_duplicates": {"clusters": _COUNT, "images": _COUNT},
    },
    "balance": {"synthetic_images": _COUNT, "classes": Each(dict, {"copies": _COUNT})},
    "baseline": {
        "classifier": _TEXT,
        "features": _COUNT,
        "most_important": Each(list, {"feature": _TEXT}),
    },
    "evaluate": {
        "baseline": _MODEL,
        "base": _MODEL,
        "tuned": _MODEL,
        "final": _MODEL | {"confusions": Each(list, _CONFUSION)},
        "comparisons": Each(dict, _DIFFERENCE),
    },
    "suspicious": {
        "images": {"val": _COUNT, "test": _COUNT},
        "suspicious": _COUNT,
        "share_of_wrong_labels": _NUMBER,
        "listed": Each(
            list,
            {"path": _TEXT, "split": _TEXT, "given": _TEXT, "suggested": _TEXT, "score": _NUMBER},
        ),
    },
    "tta": {
        "mean": _TEXT,
        "seed": _COUNT,
        "choose": (str, int),
        "calibrate": _FLAG,
        "chosen": {"count": _COUNT, "views": Each(list, _TEXT), "reason": _TEXT},
        "temperature": _FIGURE,
        "rungs": Each(list, _RUNG, 1),
    },
    "retrieve": {
        "test": Each(dict, _FIGURE),
        "queries": _COUNT,
        "searched": _COUNT,
        "dimensions": _COUNT,
    },
    "register": {
        "model": _TEXT,
        "alias": _TEXT,
        "bundle": _TEXT,
        "candidate": _HEADLINE,
        "baseline": _HEADLINE,
        "decision": _TEXT,
        "promoted": _FLAG,
        "reasons": Each(list, _TEXT),
        "checks": Each(list, _CHECK),
        "champion": Maybe({"version": _TEXT, "bundle": (str, type(None))}),
        "comparison": Maybe(_DIFFERENCE),
        "classes": Maybe(Each(dict, _RECALLS)),
        "latency": Maybe(dict.fromkeys(("candidate_ms", "champion_ms", "ratio"), _NUMBER)),
        "version": _TEXT,
        "aliases": Each(list, _TEXT),
        "run_id": (str, type(None)),
    },
}


def check_shape(value: Any, shape: Any, path: Path) -> Any:
    """Return `value`, the content of a JSON file, if it has the shape.

    Raises:
        PipelineError: it lacks a key, or holds something of another type; says where.
    """
    _check(value, shape, path, "")
    return value


def _check(value: Any, shape: Any, path: Path, place: str) -> None:
    if isinstance(shape, tuple):
        _expect(value, shape, path, place)
        return
    if isinstance(shape, Maybe):
        if value is not None:
            _check(value, shape.shape, path, place)
        return
    _expect(value, (shape.kind if isinstance(shape, Each) else dict,), path, place)
    if isinstance(shape, dict):
        for key, inner in shape.items():
            if key not in value:
                where = f"{place}.{key}".lstrip(".")
                raise PipelineError(f"{path} lacks {where}; delete it and run dvc repro")
            _check(value[key], inner, path, f"{place}.{key}")
        return
    most = len(value) if shape.most is None else shape.most
    if not shape.least <= len(value) <= most:
        wanted = f"at least {shape.least}" if shape.most is None else f"{shape.least} to {most}"
        raise damaged(path, f"{_at(place)}expected {wanted} items, found {len(value)}")
    for key, inner in value.items() if shape.kind is dict else enumerate(value):
        _check(inner, shape.shape, path, f"{place}.{key}")


def _expect(value: Any, types: tuple[type, ...], path: Path, place: str) -> None:
    # To Python a bool is an int, to a report it is not.
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        names = " or ".join(_NAMES[kind] for kind in types)
        found = next(name for kind, name in _NAMES.items() if isinstance(value, kind))
        raise damaged(path, f"{_at(place)}expected {names}, found {found}")


def _at(place: str) -> str:
    return f"{place.lstrip('.')}: " if place else ""
