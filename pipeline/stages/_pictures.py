"""The pictures of `evaluate`, and what it writes for `dvc plots`."""

from collections.abc import Mapping

import numpy as np

from pipeline.data.shards.shards import ImageSet
from pipeline.evaluation.metrics import scores
from pipeline.evaluation.metrics.precision_recall import class_curves
from pipeline.evaluation.metrics.predictions import Predictions
from pipeline.evaluation.metrics.suspicious import SuspiciousLabels
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.confusion import draw_confusion
from pipeline.evaluation.plots.curves import draw_learning_curves
from pipeline.evaluation.plots.dvc import write_answers, write_curves
from pipeline.evaluation.plots.mixing import draw_examples
from pipeline.evaluation.plots.precision_recall import draw_precision_recall
from pipeline.evaluation.plots.sheets import (
    Mistake,
    draw_mistakes,
    draw_suspects,
    mistakes_of,
    most_confident_mistakes,
)
from pipeline.evaluation.reports.files import read_report
from pipeline.evaluation.reports.history import History
from pipeline.evaluation.reports.schema import Measured
from pipeline.params.choices.training import Training
from pipeline.stages._paths import HISTORY, PICTURES, REPORTS, training_folders
from pipeline.vision.inspection.examples import training_examples

FOLDER = PICTURES / "evaluate"

_IMAGES_SHOWN = 24
_EXAMPLES_SHOWN = 6
_CURVE_POINTS = 300  # per class


def draw_suspicious(sets: Mapping[str, ImageSet], found: SuspiciousLabels) -> None:
    """Draw the images of each split whose label looks wrong."""
    shown = [
        Mistake(
            sets[one.split].gather(np.array([one.row]))[0],
            one.path,
            one.given,
            one.suggested,
            one.probability,
        )
        for one in found.listed[:_IMAGES_SHOWN]
    ]
    save(draw_suspects(shown, found.count), FOLDER / "suspicious.png")


def draw_trainings() -> None:
    """Draw the learning curves of both trainings.

    Raises:
        PipelineError: a history is missing or damaged.
    """
    titles = {"base": "first training", "tuned": "fine-tuning"}
    histories = {
        title: read_report(HISTORY / f"{name}.json", History).root for name, title in titles.items()
    }
    save(draw_learning_curves(histories), FOLDER / "learning_curves.png")


def draw_inputs(recipes: Mapping[str, Training]) -> None:
    """Draw images of the first batches of each training that augments or mixes them."""
    for name, recipe in recipes.items():
        images = ImageSet.open(*training_folders(recipe.images))
        path = FOLDER / f"{name}_inputs.png"
        path.unlink(missing_ok=True)
        if examples := training_examples(images, recipe, _EXAMPLES_SHOWN):
            save(draw_examples(examples), path)


def draw_confusions(given: Predictions | None, name: str) -> None:
    """Draw a model's confusion matrix; remove the picture without a model."""
    path = FOLDER / f"{name}.png"
    path.unlink(missing_ok=True)
    if given:
        answers = scores.answers(given.labels, given.probabilities)
        save(draw_confusion(scores.confusion_matrix(answers), given.classes), path)


def draw_answers(test: ImageSet, given: Predictions, measured: Measured) -> None:
    """Draw a model's answers on the test images, and write what `dvc plots` draws of them."""
    answers = scores.answers(given.labels, given.probabilities)
    draw_confusions(given, "confusion_matrix")
    rows = most_confident_mistakes(given.labels, given.probabilities, _IMAGES_SHOWN)
    mistakes = mistakes_of(given, rows, list(test.gather(rows)))
    wrong = int((~answers.right).sum())
    save(draw_mistakes(mistakes, total=wrong), FOLDER / "mistakes.png")
    curves = class_curves(given.labels, given.probabilities, given.classes, _CURVE_POINTS)
    average = {name: figures.average_precision for name, figures in measured.per_class.items()}
    title = f"mean average precision {measured.figures['average_precision'].value:.3f}"
    save(
        draw_precision_recall(curves, {name: one.value for name, one in average.items()}, title),
        FOLDER / "precision_recall.png",
    )
    write_answers(REPORTS / "plots" / "confusion.csv", given)
    write_curves(REPORTS / "plots" / "precision_recall.csv", curves)
