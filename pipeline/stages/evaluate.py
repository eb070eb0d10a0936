"""Judge the models on the test images: metrics, comparisons, predictions and pictures."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from pipeline.data.shards.shards import ImageSet
from pipeline.errors import PipelineError
from pipeline.evaluation.metrics.calibration import calibrate, calibrate_at
from pipeline.evaluation.metrics.class_sizes import SizeGroup, by_class_size
from pipeline.evaluation.metrics.confusions import confusions
from pipeline.evaluation.metrics.measure import compare, measure
from pipeline.evaluation.metrics.posteriors import temper
from pipeline.evaluation.metrics.predictions import Predictions, read_predictions, write_predictions
from pipeline.evaluation.metrics.suspicious import SuspiciousLabels, suspicious_labels
from pipeline.evaluation.metrics.table import Scored, metric_named, metrics_of
from pipeline.evaluation.metrics.temperature import Prior
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.reliability import draw_reliability, tempered_series
from pipeline.evaluation.reports.files import write_report
from pipeline.evaluation.reports.images import SuspiciousReport
from pipeline.evaluation.reports.schema import EvaluateReport, Model
from pipeline.evaluation.reports.words import number
from pipeline.files import write_json
from pipeline.params import Evaluate, Params
from pipeline.stages._bundles import load_matching
from pipeline.stages._paths import BASE, FINAL, PACKED, PREDICTIONS, REPORTS, TUNED
from pipeline.stages._pictures import (
    FOLDER,
    draw_answers,
    draw_confusions,
    draw_inputs,
    draw_suspicious,
    draw_trainings,
)
from pipeline.stages._trained import planned
from pipeline.vision.inference.bundle import Bundle
from pipeline.vision.inference.predict import probabilities
from pipeline.vision.inference.sets import over_set

Block = dict[str, Any]
Given = dict[str, Predictions]  # by split


def run(params: Params) -> None:
    """Predict packed/test and packed/val with each network; compare them and the baseline.

    The posteriors of one model are held at a time. What comparisons need of it is some numbers
    per image.
    """
    how = params.evaluate
    sets = {name: ImageSet.open(PACKED / name) for name in ("val", "test")}
    prior: Prior = "natural" if params.tta.calibrate == "off" else params.tta.calibrate
    judged: dict[str, Block | None] = {"baseline": None}
    scored: dict[str, Scored] = {}
    if given := _read_baseline(sets):
        judged["baseline"], scored["baseline"] = _judge(given, how, prior)
    draw_confusions(given["test"] if given else None, "confusion_matrix_of_baseline")
    for name, folder in (("base", BASE), ("tuned", TUNED)):
        given = _predict(sets, load_matching(folder, sets["test"].info), name)
        judged[name], scored[name] = _judge(given, how, prior)
        write_predictions(PREDICTIONS / f"{name}.parquet", given["test"])
    given = {}  # before the final model needs the room
    bundle = load_matching(FINAL, sets["test"].info)
    temperature = bundle.description.temperature
    final = _predict(sets, _untempered(bundle), "final")
    untempered = _scored(final["test"], how)
    validation = final["val"].labels, final["val"].probabilities
    final = {name: _at(temperature, one) for name, one in final.items()}
    shipped = untempered if temperature == 1.0 else _scored(final["test"], how)
    judged["final"] = {
        "test": measure(shipped, bundle.classes),
        "calibration": calibrate_at(
            temperature, validation, shipped, untempered, bundle.classes, prior=prior
        ),
        "confusions": confusions(shipped.answers, bundle.classes),
    }
    del validation
    scored["final"] = shipped
    write_predictions(PREDICTIONS / "final.parquet", final["test"])
    report = EvaluateReport.model_validate(
        {
            "metrics": [vars(one) for one in metrics_of(len(bundle.classes), how)],
            **judged,
            "comparisons": {
                f"{later}_minus_{earlier}": compare(scored[later], scored[earlier])
                for earlier, later in combinations(scored, 2)
            },
            "class_sizes": [vars(group) for group in _by_class_size(scored)],
        }
    )
    suspicious = suspicious_labels(final, how.suspicious_images)

    write_report(REPORTS / "evaluate.json", report)
    headlines = {name: _headline(model) for name, model in report.models.items()}
    write_json(REPORTS / "metrics.json", headlines)
    write_report(
        REPORTS / "suspicious.json",
        _suspicious_report(sets, suspicious, _why_withheld(report, how)),
    )
    draw_trainings()
    draw_inputs({stage: planned(params, stage).recipe for stage in ("train", "finetune")})
    draw_answers(sets["test"], final["test"], report.final.test)
    series = tempered_series(untempered.answers, shipped.answers, temperature, how.calibration_bins)
    save(draw_reliability(series), FOLDER / "reliability.png")
    draw_suspicious(sets, suspicious)
    metric = metric_named(how.metric)
    figures = ", ".join(f"{name} {number(metric.value(one))}" for name, one in scored.items())
    print(f"evaluate: {len(sets['test'])} test images, {metric.noun}: {figures}")


def _read_baseline(sets: Mapping[str, ImageSet]) -> Given | None:
    """Return what the baseline says; None where `baseline.classifier` is none."""
    found = {}
    for split, name in (("val", "baseline_val"), ("test", "baseline")):
        path = PREDICTIONS / f"{name}.parquet"
        found[split] = read_predictions(path)
        if found[split].ids and found[split].ids != sets[split].ids:
            raise PipelineError(
                f"{path} is about other images than {PACKED / split}; run dvc repro baseline"
            )
    return found if found["test"].ids else None


def _predict(sets: Mapping[str, ImageSet], bundle: Bundle, name: str) -> Given:
    found = {}
    for split, images in sets.items():
        posteriors = over_set(probabilities, bundle, images, f"evaluate: {name} on {split}")
        labels = images.labels.astype(np.int64)
        found[split] = Predictions(
            images.info.classes, images.ids, images.paths, labels, posteriors
        )
    return found


def _untempered(bundle: Bundle) -> Bundle:
    return replace(bundle, description=replace(bundle.description, temperature=1.0))


def _at(temperature: float, given: Predictions) -> Predictions:
    """Return what the bundle says that says `given` without its temperature."""
    if temperature == 1.0:
        return given
    return replace(given, probabilities=temper(given.probabilities, temperature))


def _scored(given: Predictions, how: Evaluate) -> Scored:
    return Scored.of(given.labels, given.probabilities, how)


def _judge(given: Given, how: Evaluate, prior: Prior) -> tuple[Block, Scored]:
    """Return what evaluate.json holds of a model, with what a temperature would make of it."""
    val, test = given["val"], given["test"]
    plain = _scored(test, how)
    validation = val.labels, val.probabilities
    block = {
        "test": measure(plain, test.classes),
        "calibration": calibrate(validation, test.probabilities, plain, test.classes, prior),
    }
    return block, plain


def _by_class_size(scored: Mapping[str, Scored]) -> list[SizeGroup]:
    training = ImageSet.open(PACKED / "train").class_counts()
    return by_class_size(training, {name: one.answers for name, one in scored.items()})


def _headline(model: Model) -> dict[str, dict[str, float | None]]:
    """Pick the figures that `dvc metrics diff` compares between commits and experiments."""
    return {
        "test": {name: figure.value for name, figure in model.test.figures.items()},
        "calibrated": {name: figure.value for name, figure in model.calibration.test.items()},
    }


def _why_withheld(report: EvaluateReport, how: Evaluate) -> str:
    """Say why the share of wrong labels is no estimate; empty where it is one.

    Confident learning takes the model's answers for hints of the truth. Those of a model that
    hand-crafted features beat are hints of its own mistakes.
    """
    if report.baseline is None:
        return (
            "baseline.classifier is none, so that nothing shows whether what the model calls wrong"
            " is its own mistake"
        )
    gain = report.comparisons["final_minus_baseline"].figures[how.metric]
    if gain.value is not None and gain.value > 0:
        return ""
    final, baseline = (
        one.test.figures[how.metric].value or 0.0 for one in (report.final, report.baseline)
    )
    return (
        f"the final model does not beat the baseline ({metric_named(how.metric).noun}"
        f" {number(final)} against {number(baseline)}), so that what it calls wrong is as likely"
        " its own mistake"
    )


def _suspicious_report(
    sets: Mapping[str, ImageSet], found: SuspiciousLabels, withheld: str
) -> SuspiciousReport:
    """Return what is reported of labels that look wrong.

    Training images are left out: a network that has learned their labels finds nothing wrong with
    them. Validation images chose only its epoch, views and temperature.
    """
    return SuspiciousReport.model_validate(
        {
            "images": {split: len(images) for split, images in sets.items()},
            "suspicious": found.count,
            "share_of_wrong_labels": None if withheld else found.share_of_wrong_labels,
            "withheld": withheld,
            "listed": [vars(one) for one in found.listed],
        }
    )
