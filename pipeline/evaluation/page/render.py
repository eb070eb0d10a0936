"""The page: what goes into its templates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment

from pipeline.evaluation.judging.looks import describe_looks
from pipeline.evaluation.page import changes, words
from pipeline.evaluation.page.names import pieces, shortened
from pipeline.evaluation.page.pictures import BUDGET_BYTES, embed
from pipeline.evaluation.page.verdict import verdict
from pipeline.evaluation.registration.outcome import RegisterReport
from pipeline.evaluation.reports.images import BalanceReport, DataReport, SuspiciousReport
from pipeline.evaluation.reports.latent import RetrieveReport
from pipeline.evaluation.reports.localize import LocalizeReport
from pipeline.evaluation.reports.network import NetworkReport
from pipeline.evaluation.reports.network_words import (
    COST_NAMES,
    HEADINGS,
    cells,
    of_cost,
    paths,
    volume,
)
from pipeline.evaluation.reports.schema import (
    BaselineReport,
    ClassFigures,
    EvaluateReport,
    Figure,
    TtaReport,
)
from pipeline.evaluation.reports.words import cosine_text, number
from pipeline.evaluation.retraining.history import TITLES, Rows
from pipeline.evaluation.theme import templates_of

_ROWS_SHOWN = 100
# What a reader sees without asking for more.
_WORST_CLASSES = 5
_CONFUSIONS = 10


@dataclass(frozen=True)
class Recipe:
    """How the networks were trained.

    Attributes:
        text: in the form of params.yaml.
        name: of the recipe that was made for the images; None: params.yaml states it.
        reason: why this one.
        planned: the time that both trainings were expected to take, in words; '' where none was.
    """

    text: str
    name: str | None = None
    reason: str = ""
    planned: str = ""


@dataclass(frozen=True)
class Page:
    """What the page is made of: the reports of the stages.

    Attributes:
        title: of the page.
        data, balance, baseline, evaluate, suspicious, tta, localize, retrieve, network, register:
            reports/<name>.json.
        recipe: of the trainings.
        calls: the latest ones of `convoy retrain`, the oldest first.
        split: class name to images by split name.
        pictures: '<stage>/<name>' to the bytes of a PNG; those that are absent are left out of
            the page.
    """

    title: str
    data: DataReport
    balance: BalanceReport
    baseline: BaselineReport
    evaluate: EvaluateReport
    suspicious: SuspiciousReport
    tta: TtaReport
    localize: LocalizeReport
    retrieve: RetrieveReport
    network: NetworkReport
    register: RegisterReport
    recipe: Recipe
    calls: Rows
    split: Mapping[str, Mapping[str, int]]
    pictures: Mapping[str, bytes]


def render(page: Page) -> str:
    """Return the page as HTML that needs no other file and no network."""
    models = {name: model.test for name, model in page.evaluate.models.items()}
    final = page.evaluate.final
    titles = {
        judged: {
            metric.name: metric.title for metric in page.evaluate.metrics if metric.judges == judged
        }
        for judged in ("answers", "confidence")
    }
    worst_first = sorted(final.test.per_class.items(), key=_f1_of)
    confused = [cell for cell in final.confusions if cell.true != cell.predicted]
    fell, rose = changes.moved_recalls(page.register)
    return (
        _environment()
        .get_template("index.html")
        .render(
            page=page,
            verdict=verdict(page.register),
            models=models,
            final=final,
            views=_views(page.tta.chosen.views),
            **titles,
            top_k=any(name.startswith("top_") for name in titles["answers"]),
            spans=_spans({name: block.macro_f1 for name, block in models.items()}),
            wrong=sum(cell.images for cell in confused),
            confused=confused[:_CONFUSIONS],
            worst_first=worst_first,
            worst=[entry for entry in worst_first if _f1_of(entry)[0] < 1][:_WORST_CLASSES],
            metrics=changes.metrics(page.register),
            fell=fell,
            rose=rose,
            rows_shown=_ROWS_SHOWN,
            calls=page.calls.root[::-1],
            outcomes=TITLES,
            costs=COST_NAMES,
            headings=HEADINGS,
            images=embed(page.pictures, BUDGET_BYTES),
        )
    )


def _environment() -> Environment:
    environment = templates_of("pipeline.evaluation.page")
    environment.filters.update(
        amount=of_cost,
        cells=cells,
        cosine=cosine_text,
        figure=words.figure_text,
        looks=describe_looks,
        number=number,
        paths=paths,
        p_value=words.p_value,
        per_cent=words.per_cent,
        retrieval=words.retrieval_title,
        pieces=pieces,
        shortened=shortened,
        volume=volume,
    )
    return environment


def _views(names: Sequence[str]) -> Sequence[str]:
    """Return the views that the final model takes; none where it takes images as they are."""
    return [] if list(names) == ["identity"] else names


def _spans(figures: Mapping[str, Figure]) -> dict[str, dict[str, float]]:
    """Place figures and their intervals on one line, in per cent of its length."""
    lowest = min(figure.ci95[0] for figure in figures.values())
    highest = max(figure.ci95[1] for figure in figures.values())
    length = max(highest - lowest, 1e-9)

    def place(value: float | None) -> float:
        return round(100 * ((lowest if value is None else value) - lowest) / length, 2)

    return {
        name: {
            "low": place(figure.ci95[0]),
            "value": place(figure.value),
            "high": place(figure.ci95[1]),
        }
        for name, figure in figures.items()
    }


def _f1_of(entry: tuple[str, ClassFigures]) -> tuple[float, str]:
    """Sort by F1, lowest first; classes without test images last."""
    name, figures = entry
    return 2.0 if figures.f1.value is None else figures.f1.value, name


def find_pictures(folder: Path, *others: Path) -> dict[str, bytes]:
    """Return the PNG files in the folders within `folder`, and in `others`.

    Returns:
        '<folder>/<name>' to content, sorted.
    """
    files = [*folder.glob("*/*.png"), *(file for one in others for file in one.glob("*.png"))]
    return {f"{path.parent.name}/{path.stem}": path.read_bytes() for path in sorted(files)}


def count_split(labels: Sequence[str], splits: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count the rows of the split table by class and split."""
    counts = {label: {"train": 0, "val": 0, "test": 0} for label in sorted(set(labels))}
    for label, split in zip(labels, splits, strict=True):
        counts[label][split] += 1
    return counts
