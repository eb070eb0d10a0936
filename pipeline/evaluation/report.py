"""The page that a person opens: one file, from the verdict down to the details."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from PIL import Image

from pipeline.evaluation.summary import format_figure, model_blocks

_TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro-F1",
    "average_precision": "Average precision",
    "nll": "NLL, nats",
    "brier": "Brier score",
    "ece": "Calibration error",
}
_OF_CONFIDENCE = ("nll", "brier", "ece")
# What keeps the page below 5 MB however large the pictures are.
_LARGEST_PNG_BYTES = 300_000
_WIDEST_PX = 1600
_ROWS_SHOWN = 100


@dataclass(frozen=True)
class Page:
    """What the page is made of: the reports as the stages wrote them.

    Attributes:
        title: of the page.
        data, balance, baseline, evaluate, suspicious, tta, retrieve, register:
            reports/<name>.json.
        split: class name to images by split name.
        pictures: '<stage>/<name>' to the PNG; those that are absent are left out of the page.
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
    pictures: Mapping[str, Path]


def render(page: Page) -> str:
    """Return the page as HTML that needs no other file and no network."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = format_figure
    environment.filters["p_value"] = _format_p
    source = resources.files("pipeline.evaluation").joinpath("report.html")
    template = environment.from_string(source.read_text(encoding="utf-8"))
    blocks = model_blocks(page.evaluate, page.tta)
    per_class = page.evaluate["tuned"]["test"]["per_class"]
    return template.render(
        page=page,
        answers=_titles(blocks["tuned"], of_confidence=False),
        confidence=_titles(blocks["tuned"], of_confidence=True),
        models=blocks,
        spans=_spans(blocks),
        worst_first=sorted(per_class.items(), key=_f1_of),
        mistakes=[
            cell
            for cell in page.evaluate["tuned"]["confusions"]
            if cell["true"] != cell["predicted"]
        ],
        rows_shown=_ROWS_SHOWN,
        images={name: picture_uri(path) for name, path in page.pictures.items()},
    )


def picture_uri(path: Path) -> str:
    """Return a picture as a data URI: the PNG, or a WebP where that would be large."""
    content, kind = path.read_bytes(), "png"
    if len(content) > _LARGEST_PNG_BYTES:
        with Image.open(io.BytesIO(content)) as picture:
            picture.thumbnail((_WIDEST_PX, _WIDEST_PX * 4))
            buffer = io.BytesIO()
            picture.convert("RGB").save(buffer, "WEBP", quality=80)
        content, kind = buffer.getvalue(), "webp"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _titles(block: Mapping[str, Any], *, of_confidence: bool) -> dict[str, str]:
    """Return the titles of the metrics of a block, by key: of answers, or of confidence."""
    keys = [key for key in block if key in _TITLES or key.startswith("top_")]
    return {
        key: _TITLES.get(key) or f"Top-{key.split('_')[1]} accuracy"
        for key in keys
        if (key in _OF_CONFIDENCE) == of_confidence
    }


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


def _format_p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def find_pictures(folder: Path) -> dict[str, Path]:
    """Return the PNG files below `folder` as '<stage>/<name>' to path, sorted."""
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for path in sorted(folder.glob("*/*.png"))
    }


def count_split(labels: Sequence[str], splits: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count the rows of the split table by class and split."""
    counts = {label: {"train": 0, "val": 0, "test": 0} for label in sorted(set(labels))}
    for label, split in zip(labels, splits, strict=True):
        counts[label][split] += 1
    return counts
