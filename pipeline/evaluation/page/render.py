"""The page: what goes into its templates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from pipeline.evaluation.page import changes, words
from pipeline.evaluation.page.pictures import BUDGET_BYTES, embed
from pipeline.evaluation.page.verdict import check_rows, verdict
from pipeline.evaluation.reports.summary import model_blocks

_ROWS_SHOWN = 100
# What a reader sees without asking for more.
_WORST_CLASSES = 5
_CONFUSIONS = 10


@dataclass(frozen=True)
class Page:
    """What the page is made of: the reports as the stages wrote them.

    Attributes:
        title: of the page.
        data, balance, baseline, evaluate, suspicious, tta, retrieve, register:
            reports/<name>.json.
        split: class name to images by split name.
        pictures: '<stage>/<name>' to the bytes of a PNG; those that are absent are left out of
            the page.
    """

    title: str
    data: Mapping[str, Any]
    balance: Mapping[str, Any]
    baseline: Mapping[str, Any]
    evaluate: Mapping[str, Any]
    suspicious: Mapping[str, Any]
    tta: Mapping[str, Any]
    retrieve: Mapping[str, Any]
    register: Mapping[str, Any]
    split: Mapping[str, Mapping[str, int]]
    pictures: Mapping[str, bytes]


def render(page: Page) -> str:
    """Return the page as HTML that needs no other file and no network."""
    models = model_blocks(page.evaluate)
    final = page.evaluate["final"]
    titles = words.titles(final["test"])
    worst_first = sorted(final["test"]["per_class"].items(), key=_f1_of)
    confused = [cell for cell in final["confusions"] if cell["true"] != cell["predicted"]]
    fell, rose = changes.moved_recalls(page.register)
    return (
        _environment()
        .get_template("index.html")
        .render(
            page=page,
            verdict=verdict(page.register),
            checks=check_rows(page.register),
            models=models,
            final=final,
            views=_views(page.tta["chosen"]["views"]),
            answers={key: title for key, title in titles.items() if key not in words.OF_CONFIDENCE},
            confidence={key: title for key, title in titles.items() if key in words.OF_CONFIDENCE},
            spans=_spans(models),
            wrong=sum(cell["images"] for cell in confused),
            confused=confused[:_CONFUSIONS],
            worst_first=worst_first,
            worst=[entry for entry in worst_first if _f1_of(entry)[0] < 1][:_WORST_CLASSES],
            metrics=changes.metrics(page.register),
            fell=fell,
            rose=rose,
            rows_shown=_ROWS_SHOWN,
            images=embed(page.pictures, BUDGET_BYTES),
        )
    )


def _environment() -> Environment:
    folder = resources.files("pipeline.evaluation.page")
    environment = Environment(
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        figure=words.figure_text,
        number=words.number,
        p_value=words.p_value,
        per_cent=words.per_cent,
    )
    return environment


def _views(names: Sequence[str]) -> Sequence[str]:
    """Return the views that the final model takes; none where it takes images as they are."""
    return [] if list(names) == ["identity"] else names


def _spans(blocks: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Place each model's macro-F1 and its interval on one line: per cent of the line's length."""
    figures = {name: block["macro_f1"] for name, block in blocks.items()}
    lowest: float = min(figure["ci95"][0] for figure in figures.values())
    highest: float = max(figure["ci95"][1] for figure in figures.values())
    length = max(highest - lowest, 1e-9)

    def place(value: float) -> float:
        return round(100 * (value - lowest) / length, 2)

    return {
        name: {
            "low": place(figure["ci95"][0]),
            "value": place(figure["value"]),
            "high": place(figure["ci95"][1]),
        }
        for name, figure in figures.items()
    }


def _f1_of(entry: tuple[str, Mapping[str, Any]]) -> tuple[float, str]:
    """Sort by F1, lowest first; classes without test images last."""
    name, figures = entry
    value: float | None = figures["f1"]["value"]
    return 2.0 if value is None else value, name


def find_pictures(folder: Path) -> dict[str, bytes]:
    """Return the PNG files below `folder` as '<stage>/<name>' to content, sorted."""
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path.read_bytes()
        for path in sorted(folder.glob("*/*.png"))
    }


def count_split(labels: Sequence[str], splits: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count the rows of the split table by class and split."""
    counts = {label: {"train": 0, "val": 0, "test": 0} for label in sorted(set(labels))}
    for label, split in zip(labels, splits, strict=True):
        counts[label][split] += 1
    return counts
