"""What `evaluate` draws, and what it writes for `dvc plots`."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.shards.shards import ImageSet
from pipeline.evaluation.metrics import definitions as metrics
from pipeline.evaluation.metrics.precision_recall import Curve, curve
from pipeline.evaluation.metrics.predictions import Predictions
from pipeline.evaluation.plots._style import BLUE, ORANGE, save
from pipeline.evaluation.plots.confusion import draw_confusion
from pipeline.evaluation.plots.curves import draw_learning_curves
from pipeline.evaluation.plots.mixing import draw_examples
from pipeline.evaluation.plots.precision_recall import draw_precision_recall
from pipeline.evaluation.plots.reliability import Series, draw_reliability
from pipeline.evaluation.plots.sheets import Mistake, draw_mistakes, most_confident_mistakes
from pipeline.evaluation.reports.schema import HISTORY as HISTORY_SHAPE
from pipeline.evaluation.reports.schema import check_shape
from pipeline.files import atomic_path, read_json
from pipeline.params import Training
from pipeline.stages._paths import HISTORY, PICTURES, REPORTS, training_folders
from pipeline.vision.inspection.examples import training_examples

_IMAGES_SHOWN = 24
_EXAMPLES_SHOWN = 6
_CURVE_POINTS = 300  # per class
_FOLDER = PICTURES / "evaluate"
_TITLES = {"base": "first training", "tuned": "fine-tuning"}

Block = Mapping[str, Any]


def draw_trainings() -> None:
    """Draw the learning curves of both trainings.

    Raises:
        PipelineError: a history is missing or damaged.
    """
    paths = {title: HISTORY / f"{name}.json" for name, title in _TITLES.items()}
    histories = {
        title: check_shape(read_json(path), HISTORY_SHAPE, path) for title, path in paths.items()
    }
    save(draw_learning_curves(histories), _FOLDER / "learning_curves.png")


def draw_inputs(recipes: Mapping[str, Training]) -> None:
    """Draw images of the first batches of each training that augments or mixes them.

    Args:
        recipes: by the name of the training stage.
    """
    for name, recipe in recipes.items():
        images = ImageSet.open(*training_folders(recipe.images))
        path = _FOLDER / f"{name}_inputs.png"
        path.unlink(missing_ok=True)
        if examples := training_examples(images, recipe, _EXAMPLES_SHOWN):
            save(draw_examples(examples), path)


def draw_answers(test: ImageSet, given: Predictions, block: Block) -> None:
    """Draw what a model says of the test images, and write its answers and curves as CSV.

    Args:
        test: the images.
        given: the model's answers.
        block: its test metrics.
    """
    answers = metrics.answers(given.labels, given.probabilities)
    matrix = draw_confusion(metrics.confusion_matrix(answers), given.classes)
    save(matrix, _FOLDER / "confusion_matrix.png")
    wrong = int((~answers.right).sum())
    save(draw_mistakes(_mistakes(test, given), total=wrong), _FOLDER / "mistakes.png")
    curves = {
        name: curve(given.labels == row, given.probabilities[:, row], _CURVE_POINTS)
        for row, name in enumerate(given.classes)
    }
    average = {name: block["per_class"][name]["average_precision"]["value"] for name in curves}
    title = f"mean average precision {block['average_precision']['value']:.3f}"
    save(draw_precision_recall(curves, average, title), _FOLDER / "precision_recall.png")
    _write_answers(given)
    _write_curves(curves)


def draw_confidence(
    untempered: Predictions, shipped: Predictions, temperature: float, bins: int
) -> None:
    """Draw how far a model's confidence can be trusted, without and with its temperature.

    Args:
        untempered: what it says of the test images without.
        shipped: what it says with; the same, where the temperature is 1.
        temperature: of the model.
        bins: of confidence.
    """
    said = {"without a temperature": (untempered, BLUE, "o")}
    if temperature != 1.0:
        said[f"at temperature {temperature:.2f}"] = (shipped, ORANGE, "s")
    series = []
    for name, (given, colour, marker) in said.items():
        answers = metrics.answers(given.labels, given.probabilities)
        error = metrics.expected_calibration_error(answers, bins)
        title = f"{name}, error {error:.3f}"
        series.append(Series(title, metrics.reliability(answers, bins), colour, marker))
    save(draw_reliability(series), _FOLDER / "reliability.png")


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
    """Write a model's precision-recall curves, as `dvc plots` reads them."""
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
