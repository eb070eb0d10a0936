"""Judge the models on the test images: metrics, comparisons, predictions and pictures."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.shards import ImageSet
from pipeline.errors import PipelineError
from pipeline.evaluation import metrics
from pipeline.evaluation.calibration import calibrate
from pipeline.evaluation.confusions import confusions
from pipeline.evaluation.measure import compare, measure
from pipeline.evaluation.metrics import Floats
from pipeline.evaluation.plots._style import BLUE, ORANGE, save
from pipeline.evaluation.plots.confusion import draw_confusion
from pipeline.evaluation.plots.curves import draw_learning_curves
from pipeline.evaluation.plots.precision_recall import draw_precision_recall
from pipeline.evaluation.plots.reliability import Series, draw_reliability
from pipeline.evaluation.plots.sheets import (
    Mistake,
    draw_mistakes,
    draw_suspects,
    most_confident_mistakes,
)
from pipeline.evaluation.precision_recall import Curve, curve
from pipeline.evaluation.predictions import Predictions, read_predictions, write_predictions
from pipeline.evaluation.shapes import HISTORY as HISTORY_SHAPE
from pipeline.evaluation.shapes import check_shape
from pipeline.evaluation.suspicious import find_suspects, share_of_wrong_labels
from pipeline.files import atomic_path, read_json, write_json
from pipeline.params import Params
from pipeline.progress import watched
from pipeline.stages._bundles import load_matching
from pipeline.stages._paths import BASE, HISTORY, PACKED, PICTURES, PREDICTIONS, REPORTS, TUNED
from pipeline.vision.bundle import Bundle
from pipeline.vision.predict import BATCH_SIZE, probabilities

_IMAGES_SHOWN = 24
_CURVE_POINTS = 300  # per class

Block = dict[str, Any]


def run(params: Params) -> None:
    """Predict packed/test and packed/val with both networks; compare with the baseline."""
    sets = {name: ImageSet.open(PACKED / name) for name in ("val", "test")}
    models = {"baseline": _read_baseline(sets)}
    for name, folder in (("base", BASE), ("tuned", TUNED)):
        bundle = load_matching(folder, sets["test"].info)
        models[name] = {split: _predict(images, bundle) for split, images in sets.items()}
        write_predictions(PREDICTIONS / f"{name}.parquet", models[name]["test"])

    report, scaled = _judge(models, params)
    tuned = models["tuned"]
    answers = metrics.answers(tuned["test"].labels, tuned["test"].probabilities)
    report["tuned"]["confusions"] = confusions(answers, tuned["test"].classes)
    write_json(REPORTS / "evaluate.json", report)
    write_json(REPORTS / "metrics.json", {name: _headline(report[name]) for name in models})
    _draw(sets["test"], tuned["test"], scaled, report["tuned"], params)
    _suspect(sets, tuned, params.evaluate.suspicious_images)
    _write_answers(tuned["test"])
    figures = ", ".join(
        f"{name} {report[name]['test']['macro_f1']['value']:.3f}" for name in models
    )
    print(f"evaluate: {len(sets['test'])} test images, macro-F1: {figures}")


def _read_baseline(sets: Mapping[str, ImageSet]) -> dict[str, Predictions]:
    found = {}
    for split, name in (("val", "baseline_val"), ("test", "baseline")):
        path = PREDICTIONS / f"{name}.parquet"
        found[split] = read_predictions(path)
        if found[split].ids != sets[split].ids:
            raise PipelineError(
                f"{path} is about other images than {PACKED / split}; run dvc repro baseline"
            )
    return found


def _predict(images: ImageSet, bundle: Bundle) -> Predictions:
    posteriors = probabilities(bundle, watched(images.batches(BATCH_SIZE), len(images), "evaluate"))
    labels = images.labels.astype(np.int64)
    return Predictions(images.info.classes, images.ids, images.paths, labels, posteriors)


def _judge(
    models: Mapping[str, Mapping[str, Predictions]], params: Params
) -> tuple[dict[str, Block], Floats]:
    """Return what evaluate.json holds, and the tuned model's posteriors at its temperature."""
    how, report, scaled = params.evaluate, {}, np.empty(0)
    for name, given in models.items():
        val, test = given["val"], given["test"]
        block = measure(test.labels, test.probabilities, test.classes, how)
        calibration, scaled = calibrate(
            (val.labels, val.probabilities), (test.labels, test.probabilities), test.classes, how
        )
        report[name] = {"test": block, "calibration": calibration}
    report["comparisons"] = {
        f"{later}_minus_{earlier}": compare(
            models[later]["test"].labels,
            models[later]["test"].probabilities,
            models[earlier]["test"].probabilities,
            how,
        )
        for earlier, later in combinations(models, 2)
    }
    return report, scaled


def _headline(report: Block) -> dict[str, dict[str, float]]:
    """Pick the figures that `dvc metrics diff` compares between commits and experiments."""
    return {
        "test": {
            key: figure["value"]
            for key, figure in report["test"].items()
            if key not in ("images", "per_class")
        },
        "calibrated": {
            key: figure["value"] for key, figure in report["calibration"]["test"].items()
        },
    }


def _draw(
    test: ImageSet, given: Predictions, scaled: Floats, report: Block, params: Params
) -> None:
    """Draw the tuned model's pictures, and write what its curves are made of."""
    folder = PICTURES / "evaluate"
    answers = metrics.answers(given.labels, given.probabilities)
    save(
        draw_confusion(metrics.confusion_matrix(answers), given.classes),
        folder / "confusion_matrix.png",
    )
    calibration, bins = report["calibration"], params.evaluate.calibration_bins
    before, after = report["test"]["ece"]["value"], calibration["test"]["ece"]["value"]
    temperature = calibration["temperature"]["value"]
    calibrated = metrics.answers(given.labels, scaled)
    series = [
        Series(f"as trained, error {before:.3f}", metrics.reliability(answers, bins), BLUE, "o"),
        Series(
            f"at temperature {temperature:.2f}, error {after:.3f}",
            metrics.reliability(calibrated, bins),
            ORANGE,
            "s",
        ),
    ]
    save(draw_reliability(series), folder / "reliability.png")
    mistakes = int((~answers.right).sum())
    save(draw_mistakes(_mistakes(test, given), total=mistakes), folder / "mistakes.png")
    histories = {
        title: check_shape(read_json(path), HISTORY_SHAPE, path)
        for path, title in (
            (HISTORY / "base.json", "first training"),
            (HISTORY / "tuned.json", "fine-tuning"),
        )
    }
    save(draw_learning_curves(histories), folder / "learning_curves.png")
    curves = {
        name: curve(given.labels == row, given.probabilities[:, row], _CURVE_POINTS)
        for row, name in enumerate(given.classes)
    }
    per_class = report["test"]["per_class"]
    average = {name: per_class[name]["average_precision"]["value"] for name in curves}
    title = f"mean average precision {report['test']['average_precision']['value']:.3f}"
    save(draw_precision_recall(curves, average, title), folder / "precision_recall.png")
    _write_curves(curves)


def _suspect(sets: Mapping[str, ImageSet], given: Mapping[str, Predictions], most: int) -> None:
    """Write and draw the images of packed/val and packed/test whose label looks wrong.

    The tuned model learned from neither; validation images chose its epoch. Training images are
    left out: a network that has learned their labels finds nothing wrong with them.
    """
    labels = np.concatenate([given[split].labels for split in sets])
    posteriors = np.concatenate([given[split].probabilities for split in sets])
    places = [(split, row) for split, images in sets.items() for row in range(len(images))]
    classes = given["test"].classes
    found = find_suspects(labels, posteriors)
    listed: list[Block] = []
    shown: list[Mistake] = []
    for at, suggested, score in zip(found.rows[:most], found.suggested, found.score, strict=False):
        split, row = places[at]
        entry = {
            "path": given[split].paths[row],
            "split": split,
            "given": classes[labels[at]],
            "suggested": classes[suggested],
            "probability": float(posteriors[at, suggested]),
            "score": float(score),
        }
        listed.append(entry)
        if len(shown) < _IMAGES_SHOWN:
            image = sets[split].gather(np.array([row]))[0]
            words = (entry[key] for key in ("path", "given", "suggested", "probability"))
            shown.append(Mistake(image, *words))
    support = np.bincount(labels, minlength=len(classes))
    write_json(
        REPORTS / "suspicious.json",
        {
            "images": {split: len(images) for split, images in sets.items()},
            "suspicious": len(found.rows),
            "share_of_wrong_labels": share_of_wrong_labels(found.joint, support),
            "listed": listed,
        },
    )
    save(draw_suspects(shown, len(found.rows)), PICTURES / "evaluate" / "suspicious.png")


def _mistakes(test: ImageSet, given: Predictions) -> list[Mistake]:
    rows = most_confident_mistakes(given.labels, given.probabilities, _IMAGES_SHOWN)
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
    _write_csv(
        REPORTS / "plots" / "confusion.csv",
        ("actual", "predicted"),
        (
            (given.classes[label], given.classes[answer])
            for label, answer in zip(given.labels, predicted, strict=True)
        ),
    )


def _write_curves(curves: Mapping[str, Curve]) -> None:
    """Write the tuned model's precision-recall curves, as `dvc plots` reads them."""
    _write_csv(
        REPORTS / "plots" / "precision_recall.csv",
        ("class", "recall", "precision", "threshold"),
        (
            (name, *(f"{value:.6g}" for value in point))
            for name, one in curves.items()
            for point in zip(one.recall, one.precision, one.threshold, strict=True)
        ),
    )


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
