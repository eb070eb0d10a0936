"""Reports as the stages write them, of invented posteriors of any number of classes."""

from collections.abc import Sequence
from functools import cache
from itertools import combinations
from typing import Any, get_type_hints

import numpy as np
from pydantic import BaseModel

from pipeline.evaluation.judging.disagreements import find_disagreements
from pipeline.evaluation.judging.findings import Check, Disagreements
from pipeline.evaluation.judging.gate import AgainstBaseline, AgainstChampion, judge
from pipeline.evaluation.judging.recalls import compare_recalls
from pipeline.evaluation.metrics.calibration import calibrate
from pipeline.evaluation.metrics.confusions import confusions
from pipeline.evaluation.metrics.measure import brier_difference, compare, measure
from pipeline.evaluation.metrics.scores import Floats, answers
from pipeline.evaluation.metrics.table import Scored, metric_named, metrics_of
from pipeline.evaluation.page import Page, Recipe
from pipeline.evaluation.registration.outcome import RegisterReport
from pipeline.evaluation.reports.schema import EvaluateReport, TtaReport
from pipeline.evaluation.retraining.history import Rows
from pipeline.params import Evaluate, Register

HOW = Evaluate(
    seed=0,
    metric="macro_f1",
    bootstrap_resamples=100,
    calibration_bins=5,
    top_k=(2,),
    suspicious_images=20,
)
RULES = Register(
    name="ants",
    alias="champion",
    baseline="point",
    min_gain_over_baseline=0.01,
    max_loss=0.01,
    max_class_recall_loss=0.05,
    max_ece_gain=0.02,
    max_latency_ratio=2.0,
)
METRIC = metric_named("macro_f1")
OVER_BASELINE = AgainstBaseline(0.9, 0.8, {"value": 0.1, "ci95": [0.05, 0.15]})
CHAMPION = {"version": "3", "bundle": "ab" * 32}
MODELS = ("baseline", "base", "tuned", "final")
# The model of reports/<name>.json, for each that the page is made of.
SCHEMA: dict[str, type[BaseModel]] = {
    name: kind
    for name, kind in get_type_hints(Page).items()
    if isinstance(kind, type) and issubclass(kind, BaseModel) and kind is not Rows
}


def changed(report: Any, **changes: Any) -> Any:
    """Return a report with other values, which are checked."""
    return type(report).model_validate(report.model_dump() | changes)


def metrics(classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return what a report lists of its metrics."""
    return [vars(metric) for metric in metrics_of(len(classes), HOW)]


def posteriors(labels: np.ndarray, classes: int, skill: float, seed: int) -> Floats:
    """Invent n x k posteriors that are right the more often the higher the skill."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(labels), classes))
    logits[np.arange(len(labels)), labels] += skill
    values = np.exp(logits)
    return values / values.sum(axis=1, keepdims=True)


def four_models(classes: Sequence[str], images: int) -> tuple[np.ndarray, dict[str, Floats]]:
    """Invent labels, and the posteriors of each model."""
    labels = np.arange(images) % len(classes)
    return labels, {
        name: posteriors(labels, len(classes), 2.0 + 0.5 * place, place)
        for place, name in enumerate(MODELS)
    }


@cache
def evaluate_report(classes: Sequence[str], images: int) -> EvaluateReport:
    """Make reports/evaluate.json."""
    labels, given = four_models(classes, images)
    report: dict[str, Any] = {"metrics": metrics(classes)}
    for name, values in given.items():
        calibration = calibrate((labels, values), values, Scored.of(labels, values, HOW), classes)
        block = measure(Scored.of(labels, values, HOW), classes)
        report[name] = {"test": block, "calibration": calibration}
    report["final"]["confusions"] = confusions(answers(labels, given["final"]), classes)
    report["comparisons"] = {
        f"{later}_minus_{earlier}": compare(
            Scored.of(labels, given[later], HOW), Scored.of(labels, given[earlier], HOW)
        )
        for earlier, later in combinations(MODELS, 2)
    }
    return EvaluateReport.model_validate(report)


@cache
def tta_report(classes: Sequence[str], images: int) -> TtaReport:
    """Make reports/tta.json."""
    labels, given = four_models(classes, images)
    plain, final = given["tuned"], given["final"]
    steps = []
    for views, values in ((["identity"], plain), (["identity", "hflip"], final)):
        block = measure(Scored.of(labels, values, HOW), classes)
        gain = {
            "gain": compare(Scored.of(labels, values, HOW), Scored.of(labels, plain, HOW)),
            "mended": 2,
            "spoiled": 1,
        }
        cost = {"views_per_image": len(views), "images_per_s": 1234.5}
        steps.append({"views": views, "validation": gain, "test": block, **gain, "cost": cost})
    return TtaReport.model_validate(
        {
            "metric": vars(METRIC),
            "network": {
                "name": "tuned",
                "base": 0.8,
                "tuned": 0.9,
                "difference": {"value": 0.1, "ci95": [0.05, 0.15]},
                "reason": "tuned is better by 0.1",
            },
            "mean": "arithmetic",
            "seed": 0,
            "choose": "auto",
            "calibration": {
                "prior": "natural",
                "ships": True,
                "change": -0.02,
                "reason": "it lowers the NLL",
            },
            "chosen": {
                "count": 2,
                "views": ["identity", "hflip"],
                "reason": "the gain is real",
                "untried": ["vflip"],
                "why_untried": "two are enough",
            },
            "temperature": {"value": 1.2, "ci95": [1.1, 1.3]},
            "steps": steps,
        }
    )


def retrieve_report(classes: Sequence[str], images: int) -> dict[str, Any]:
    """Make what reports/retrieve.json holds."""
    figure = {"value": 0.9, "ci95": [0.8, 0.95]}
    both = {"recall_at_1": figure, "mean_average_precision": figure}
    first, second = (
        {"path": f"{label}/{i}.png", "label": label, "split": split}
        for i, (label, split) in enumerate(((classes[0], "train"), (classes[1], "test")))
    )
    return {
        "test": {"recall_at_5": figure, "mean_average_precision": figure},
        "queries": images,
        "ranked": images - 1,
        "searched": 3 * images,
        "dimensions": 84,
        "against_pixels": {
            "queries": images,
            "searched": 3 * images,
            "latent": both,
            "pixels": both,
            "difference": both,
        },
        "duplicates": {
            "searched": 5 * images,
            "dimension": 7.5,
            "pairs": 1,
            "groups": 1,
            "images": 2,
            "across_splits": 1,
            "of_several_classes": 1,
            "listed": [{"similarity": 0.9998, "images": [first, second]}],
        },
        "outliers": {
            "judged": 5 * images,
            "outliers": 1,
            "classes": {classes[0]: 1},
            "listed": [{**first, "score": 4.2, "similarity": 0.7}],
        },
        "unlike": {
            "threshold": 0.93,
            "below": 3,
            "share": {"value": 0.05, "ci95": [0.02, 0.1]},
            "listed": [{**second, "similarity": 0.91, "nearest": first}],
        },
    }


def make_page(
    classes: Sequence[str], images: int, register: RegisterReport, **changes: Any
) -> Page:
    """Make what the page is made of.

    Args:
        classes: names.
        images: of the test set.
        register: reports/register.json, see `met`, `first` and `unchanged`.
        changes: to other reports, and the pictures.
    """
    classes = tuple(classes)
    evaluate = evaluate_report(classes, images)
    reports: dict[str, Any] = {
        "evaluate": evaluate,
        "tta": tta_report(classes, images),
        "register": register,
        "data": {
            "files": 61,
            "usable": 60,
            "problems": {"truncated": 1},
            "left_out": [{"path": "ants/1.png", "problem": "truncated: 3 bytes are missing"}],
            "near_duplicates": {"clusters": 2, "images": 5},
        },
        "balance": {"synthetic_images": 7, "classes": {classes[1]: {"copies": 7}}},
        "baseline": {
            "classifier": "random_forest",
            "settings": {"max_features": "sqrt", "min_samples_leaf": 1},
            "tried": [
                {
                    "classifier": "random_forest",
                    "settings": {"max_features": "sqrt", "min_samples_leaf": 1},
                    "score": 0.7,
                },
                {"classifier": "svm", "settings": {"C": 10.0}, "score": 0.6},
            ],
            "training_images": 40,
            "features": 108,
            "test": evaluate.baseline.test,
            "most_important": [{"feature": "covered area", "importance": 0.5}],
            "groups": [
                {"group": "directions of edges", "loss": 0.123},
                {"group": "outline and size", "loss": 0.02},
                {"group": "fine texture", "loss": -0.01},
            ],
        },
        "suspicious": {
            "images": {"val": 10, "test": images},
            "suspicious": 1,
            "share_of_wrong_labels": 0.042,
            "withheld": "",
            "listed": [
                {
                    "path": "ants/2.png",
                    "split": "val",
                    "given": classes[0],
                    "suggested": classes[1],
                    "probability": 0.9,
                    "score": 0.8,
                }
            ],
        },
        "localize": {
            "model": "cd" * 32,
            "method": "cam",
            "places": (12, 12),
            "threshold": 0.45,
            "chosen_on": "validation",
            "boxes": {
                "validation": 40,
                "test": images,
                "validation_box_accuracy": {"value": 0.85, "ci95": [0.7, 0.93]},
                "box_accuracy": {"value": 0.8, "ci95": [0.7, 0.9]},
                "box_and_class_accuracy": {"value": 0.75, "ci95": [0.65, 0.85]},
                "max_box_accuracy": {"value": 0.82, "ci95": [0.72, 0.91]},
                "pointing_accuracy": {"value": 0.95, "ci95": [0.9, 0.99]},
            },
        },
        "retrieve": retrieve_report(classes, images),
        "network": network_report(len(classes)),
    }
    reports |= {name: kind.model_validate(reports[name]) for name, kind in SCHEMA.items()}
    split = {name: {"train": 2, "val": 1, "test": 1} for name in classes}
    plain = {
        "title": "Ants & bees",
        "split": split,
        "pictures": {},
        "calls": Rows(()),
        "recipe": Recipe("train: {}"),
    }
    return Page(**{**plain, **reports, **changes})


def network_report(classes: int) -> dict[str, Any]:
    """Make reports/network.json of two layers."""
    field = {"size": (3, 5), "jump": (1.0, 2.0), "start": (0.5, 1.5), "sees_all": False}
    window = {
        "kernel": (3, 5),
        "stride": (1, 2),
        "padding": (1, 1),
        "dilation": (1, 1),
        "groups": 1,
    }
    layer = {"parameters": 96, "trainable": True, "macs": 46_080, "activation_bytes": 12_288}
    convolution = {"name": "extractor.conv1", "kind": "convolution", "output": (6, 32, 16)}
    head = {"name": "head", "kind": "dense", "output": (classes,), "window": None}
    seen = {"size": (32, 32), "jump": (0.0, 0.0), "start": (16.0, 16.0), "sees_all": True}
    cost = {"parameters": 10, "trainable": False, "macs": 10, "activation_bytes": 4 * classes}
    return {
        "network": "lenet5",
        "input": (1, 32, 32),
        "classes": classes,
        "branches": False,
        "layers": [
            convolution | {"window": window, "field": field} | layer,
            head | {"field": seen} | cost,
        ],
    }


def first() -> RegisterReport:
    """Return register.json of a first model, which has a baseline to beat and no champion."""
    rules = RULES.model_copy(update={"min_gain_over_baseline": 0.0})
    checks = judge(OVER_BASELINE, None, None, rules, METRIC)
    return _registration("promoted", ["champion"], checks, version="1")


def met(classes: Sequence[str], images: int, champion: float, candidate: float) -> RegisterReport:
    """Return register.json of a model that met a champion, of these skills."""
    labels = np.arange(images) % len(classes)
    old = posteriors(labels, len(classes), champion, 11)
    # Most images look alike to both, as they do to two trainings on the same data.
    new = 0.5 * old + 0.5 * posteriors(labels, len(classes), candidate, 12)
    scored = Scored.of(labels, new, HOW), Scored.of(labels, old, HOW)
    comparison = compare(*scored)
    recalls = compare_recalls(labels, new, old, classes, RULES.max_class_recall_loss)
    against = AgainstChampion(comparison, brier_difference(*scored), recalls, 1.08)
    checks = judge(OVER_BASELINE, against, None, RULES, METRIC)
    passed = all(check.passed for check in checks)
    paths = [f"{classes[label]}/{row:04d}.png" for row, label in enumerate(labels)]
    decision, alias = ("promoted", "champion") if passed else ("refused", "challenger")
    return changed(
        _registration(decision, [alias], checks, version="4"),
        champion=CHAMPION | {"test": measure(Scored.of(labels, old, HOW), classes)},
        metrics=metrics(classes),
        comparison=comparison,
        classes=recalls.classes,
        groups=recalls.groups,
        latency={"candidate_ms": 1.08, "champion_ms": 1.0, "ratio": 1.08},
        disagreements=Disagreements.of(find_disagreements(labels, old, new, classes, paths), 12),
    )


def unchanged() -> RegisterReport:
    """Return register.json of a model that is the champion already."""
    notes = ["it is the champion already, as version 3"]
    registration = _registration("unchanged", ["champion"], (), version="3")
    return changed(registration, notes=notes, champion=CHAMPION)


def _registration(
    decision: str, aliases: list[str], checks: Sequence[Check], version: str
) -> RegisterReport:
    figures = {"accuracy": 0.9, "balanced_accuracy": 0.9, "macro_f1": 0.9, "nll": 0.3, "ece": 0.01}
    return RegisterReport.model_validate(
        {
            "model": "ants",
            "alias": "champion",
            "bundle": "cd" * 32,
            "candidate": figures,
            "baseline": figures | {"macro_f1": 0.8},
            "over_baseline": OVER_BASELINE.difference,
            "decision": decision,
            "promoted": decision != "refused",
            "notes": [],
            "checks": checks,
            "champion": None,
            "metrics": [],
            "comparison": None,
            "classes": None,
            "groups": None,
            "disagreements": None,
            "latency": None,
            "version": version,
            "aliases": aliases,
            "run_id": "0123",
            "looks": 1,
        }
    )
