"""Judge the models on the test images: metrics, comparisons, predictions and pictures."""

import csv
from itertools import combinations
from typing import Any

import numpy as np

from pipeline.data.shards import ImageSet
from pipeline.evaluation import metrics
from pipeline.evaluation.confusions import confusions
from pipeline.evaluation.measure import compare, measure
from pipeline.evaluation.metrics import Answers
from pipeline.evaluation.plots._style import save
from pipeline.evaluation.plots.confusion import draw_confusion
from pipeline.evaluation.plots.curves import draw_learning_curves, draw_reliability
from pipeline.evaluation.plots.sheets import Mistake, draw_mistakes, most_confident_mistakes
from pipeline.evaluation.predictions import Predictions, read_predictions, write_predictions
from pipeline.files import atomic_path, read_json, write_json
from pipeline.params import Params
from pipeline.progress import watched
from pipeline.stages._bundles import load_matching
from pipeline.stages._paths import BASE, HISTORY, PACKED, PICTURES, PREDICTIONS, REPORTS, TUNED
from pipeline.vision.bundle import Bundle
from pipeline.vision.predict import BATCH_SIZE, probabilities

_MISTAKES_SHOWN = 24


def run(params: Params) -> None:
    """Predict packed/test with models/base and models/tuned, and compare with the baseline."""
    test = ImageSet.open(PACKED / "test")
    models = {"baseline": read_predictions(PREDICTIONS / "baseline.parquet")}
    for name, folder in (("base", BASE), ("tuned", TUNED)):
        models[name] = _predict(test, load_matching(folder, test.info))
        write_predictions(PREDICTIONS / f"{name}.parquet", models[name])

    report: dict[str, Any] = {
        name: {"test": measure(given.labels, given.probabilities, given.classes, params.evaluate)}
        for name, given in models.items()
    }
    report["comparisons"] = {
        f"{later}_minus_{earlier}": compare(
            models[later].labels,
            models[later].probabilities,
            models[earlier].probabilities,
            params.evaluate,
        )
        for earlier, later in combinations(models, 2)
    }
    answers = metrics.answers(models["tuned"].labels, models["tuned"].probabilities)
    report["tuned"]["confusions"] = confusions(answers, test.info.classes)
    write_json(REPORTS / "evaluate.json", report)
    write_json(REPORTS / "metrics.json", {name: _headline(report[name]) for name in models})
    _draw(test, models["tuned"], answers, params)
    _write_answers(models["tuned"])
    figures = ", ".join(
        f"{name} {report[name]['test']['macro_f1']['value']:.3f}" for name in models
    )
    print(f"evaluate: {len(test)} test images, macro-F1: {figures}")


def _headline(report: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Pick the figures that `dvc metrics diff` compares between commits and experiments."""
    keys = ("accuracy", "balanced_accuracy", "macro_f1", "nll", "ece")
    return {"test": {key: report["test"][key]["value"] for key in keys}}


def _predict(test: ImageSet, bundle: Bundle) -> Predictions:
    posteriors = probabilities(bundle, watched(test.batches(BATCH_SIZE), len(test), "evaluate"))
    labels = test.labels.astype(np.int64)
    return Predictions(test.info.classes, test.ids, test.paths, labels, posteriors)


def _draw(test: ImageSet, given: Predictions, answers: Answers, params: Params) -> None:
    """Draw the tuned model's pictures."""
    folder = PICTURES / "evaluate"
    save(
        draw_confusion(metrics.confusion_matrix(answers), given.classes),
        folder / "confusion_matrix.png",
    )
    bin_count = params.evaluate.calibration_bins
    bins = metrics.reliability(answers, bin_count)
    ece = metrics.expected_calibration_error(answers, bin_count)
    save(draw_reliability(bins, ece), folder / "reliability.png")
    save(
        draw_mistakes(_mistakes(test, given), total=int((~answers.right).sum())),
        folder / "mistakes.png",
    )
    histories = {
        title: read_json(HISTORY / f"{name}.json")
        for name, title in (("base", "first training"), ("tuned", "fine-tuning"))
    }
    save(draw_learning_curves(histories), folder / "learning_curves.png")


def _mistakes(test: ImageSet, given: Predictions) -> list[Mistake]:
    rows = most_confident_mistakes(given.labels, given.probabilities, _MISTAKES_SHOWN)
    predicted = given.probabilities.argmax(axis=1)
    return [
        Mistake(
            image,
            given.paths[row],
            given.classes[given.labels[row]],
            given.classes[predicted[row]],
            float(given.probabilities[row, predicted[row]]),
        )
        for row, image in zip(rows, test.gather(rows), strict=True)
    ]


def _write_answers(given: Predictions) -> None:
    """Write true and predicted class of each test image, as `dvc plots` reads them."""
    predicted = given.probabilities.argmax(axis=1)
    with (
        atomic_path(REPORTS / "plots" / "confusion.csv") as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["actual", "predicted"])
        for label, answer in zip(given.labels, predicted, strict=True):
            writer.writerow([given.classes[label], given.classes[answer]])
