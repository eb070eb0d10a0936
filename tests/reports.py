"""Reports as the stages write them, of invented posteriors of any number of classes."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from pipeline.evaluation.judging.disagreements import disagreement_block, find_disagreements
from pipeline.evaluation.judging.gate import (
    check_baseline,
    check_calibration,
    check_latency,
    check_macro_f1,
    check_recalls,
    compare_recalls,
)
from pipeline.evaluation.metrics.calibration import calibrate
from pipeline.evaluation.metrics.confusions import confusions
from pipeline.evaluation.metrics.definitions import Floats, answers
from pipeline.evaluation.metrics.measure import compare, measure
from pipeline.evaluation.page import Page
from pipeline.params import Evaluate

HOW = Evaluate(
    seed=0, bootstrap_resamples=100, calibration_bins=5, top_k=(2,), suspicious_images=20
)
CHAMPION = {"version": "3", "bundle": "ab" * 32}
MODELS = ("baseline", "base", "tuned", "final")


def posteriors(labels: np.ndarray, classes: int, skill: float, seed: int) -> Floats:
    """Invent n x k posteriors that are right the more often the higher the skill."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(labels), classes))
    logits[np.arange(len(labels)), labels] += skill
    values = np.exp(logits)
    return values / values.sum(axis=1, keepdims=True)


def make_page(
    classes: Sequence[str], images: int, register: dict[str, Any], **changes: Any
) -> Page:
    """Make what the page is made of.

    Args:
        classes: names.
        images: of the test set.
        register: reports/register.json, see `refused`, `promoted` and `first`.
        changes: to other reports, and the pictures.
    """
    labels = np.arange(images) % len(classes)
    given = {
        name: posteriors(labels, len(classes), 2.0 + 0.5 * place, place)
        for place, name in enumerate(MODELS)
    }
    evaluate: dict[str, Any] = {}
    for name, values in given.items():
        calibration = calibrate((labels, values), (labels, values), classes, HOW)
        block = measure(labels, values, classes, HOW)
        evaluate[name] = {"test": block, "calibration": calibration}
    evaluate["final"]["confusions"] = confusions(answers(labels, given["final"]), classes)
    evaluate["comparisons"] = {
        f"{later}_minus_{earlier}": compare(labels, given[later], given[earlier], HOW)
        for earlier, later in combinations(MODELS, 2)
    }
    reports = {
        "evaluate": evaluate,
        "tta": _ladder(labels, given, classes),
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
            "features": 108,
            "most_important": [{"feature": "covered area", "importance": 0.5}],
        },
        "suspicious": {
            "images": {"val": 10, "test": images},
            "suspicious": 1,
            "share_of_wrong_labels": 0.042,
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
        "retrieve": {
            "test": {"recall_at_5": {"value": 0.9, "ci95": [0.8, 0.95]}},
            "queries": images,
            "searched": 3 * images,
            "dimensions": 84,
        },
        "split": {name: {"train": 2, "val": 1, "test": 1} for name in classes},
        "pictures": {},
    }
    return Page(title="Ants & bees", **{**reports, **changes})


def _ladder(labels: np.ndarray, given: dict[str, Floats], classes: Sequence[str]) -> dict[str, Any]:
    plain, final = given["tuned"], given["final"]
    rungs = []
    for views, values in ((["identity"], plain), (["identity", "hflip"], final)):
        block = measure(labels, values, classes, HOW)
        gain = {"gain": compare(labels, values, plain, HOW), "mended": 2, "spoiled": 1}
        cost = {"views_per_image": len(views), "images_per_s": 1234.5}
        validation = {"macro_f1": block["macro_f1"], **gain}
        rungs.append(
            {"views": views, "validation": validation, "test": block, **gain, "cost": cost}
        )
    return {
        "mean": "arithmetic",
        "seed": 0,
        "choose": "auto",
        "calibrate": True,
        "chosen": {"count": 2, "views": ["identity", "hflip"], "reason": "the gain is real"},
        "temperature": {"value": 1.2, "ci95": [1.1, 1.3]},
        "rungs": rungs,
    }


def first() -> dict[str, Any]:
    """Return register.json of a first model, which has a baseline to beat and no champion."""
    checks = [asdict(check_baseline(0.9, 0.8, 0.0))]
    return _registration("promoted", ["champion"], checks, version="1")


def met(classes: Sequence[str], images: int, champion: float, candidate: float) -> dict[str, Any]:
    """Return register.json of a model that met a champion, of these skills."""
    labels = np.arange(images) % len(classes)
    old = posteriors(labels, len(classes), champion, 11)
    # Most images look alike to both, as they do to two trainings on the same data.
    new = 0.5 * old + 0.5 * posteriors(labels, len(classes), candidate, 12)
    comparison = compare(labels, new, old, HOW)
    recalls = compare_recalls(labels, new, old, classes)
    checks = [
        check_baseline(0.9, 0.8, 0.01),
        check_macro_f1(comparison["macro_f1"], 0.01),
        check_recalls(recalls, 0.05),
        check_calibration(comparison["ece"], 0.02),
        check_latency(1.08, 2.0),
    ]
    passed = all(check.passed for check in checks)
    paths = [f"{classes[label]}/{row:04d}.png" for row, label in enumerate(labels)]
    decision, alias = ("promoted", "champion") if passed else ("refused", "challenger")
    return _registration(decision, [alias], [asdict(check) for check in checks], version="4") | {
        "champion": CHAMPION | {"test": measure(labels, old, classes, HOW)},
        "comparison": comparison,
        "classes": recalls,
        "latency": {"candidate_ms": 1.08, "champion_ms": 1.0, "ratio": 1.08},
        "flips": disagreement_block(find_disagreements(labels, old, new, classes, paths), 12),
    }


def unchanged() -> dict[str, Any]:
    """Return register.json of a model that is the champion already."""
    reasons = ["it is the champion already, as version 3"]
    registration = _registration("unchanged", ["champion"], [], version="3")
    return registration | {"reasons": reasons, "champion": CHAMPION}


def _registration(
    decision: str, aliases: list[str], checks: list[dict[str, Any]], version: str
) -> dict[str, Any]:
    figures = {"accuracy": 0.9, "balanced_accuracy": 0.9, "macro_f1": 0.9, "nll": 0.3, "ece": 0.01}
    return {
        "model": "ants",
        "alias": "champion",
        "bundle": "cd" * 32,
        "candidate": figures,
        "baseline": figures | {"macro_f1": 0.8},
        "decision": decision,
        "promoted": decision != "refused",
        "reasons": [check["reason"] for check in checks],
        "checks": checks,
        "champion": None,
        "comparison": None,
        "classes": None,
        "latency": None,
        "version": version,
        "aliases": aliases,
        "run_id": "0123",
    }
