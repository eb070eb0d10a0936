"""Predictions as Parquet: what a model answered for which image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import some
from pipeline.evaluation.metrics.rows import Rows, read_rows, write_rows
from pipeline.files import damaged


@dataclass(frozen=True)
class Predictions(Rows):
    """Posteriors of one model on n images of k classes.

    Attributes:
        probabilities: n x k in the order of the classes, rows sum to 1.
    """

    probabilities: npt.NDArray[np.float64]


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write a row for each image.

    The columns are id, path, label (the class's name), predicted (the most probable class's name),
    probability (of that class), and p_<class> for each class, in the order of the classes.
    """
    classes, posteriors = predictions.classes, predictions.probabilities
    answers = posteriors.argmax(axis=1)
    columns = {
        "predicted": pa.array([classes[i] for i in answers], pa.string()),
        "probability": pa.array(posteriors[np.arange(len(answers)), answers]),
    }
    of_classes = zip(_columns(classes), posteriors.T, strict=True)
    write_rows(path, predictions, columns | {name: pa.array(column) for name, column in of_classes})


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises:
        PipelineError: the file is missing or damaged, or is something else.
    """
    rows, table = read_rows(path, _columns)
    posteriors = np.stack([column.to_numpy() for column in table.itercolumns()], axis=1)
    return Predictions(rows.classes, rows.ids, rows.paths, rows.labels, posteriors)


@dataclass(frozen=True)
class Answers(Rows):
    """What one model answered for n images.

    Attributes:
        predicted: n class numbers.
        probabilities: n, of these classes.
    """

    predicted: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]


def read_answers(path: Path) -> Answers:
    """Read the answers of what `write_predictions` wrote, without the other posteriors.

    Raises:
        PipelineError: the file is missing or damaged, or is something else.
    """
    rows, table = read_rows(path, lambda _: ["predicted", "probability"])
    number = {label: i for i, label in enumerate(rows.classes)}
    names = table["predicted"].to_pylist()
    if strange := set(names) - set(number):
        raise damaged(path, f"no class is named {some(strange, 1)}")
    predicted = np.array([number[name] for name in names], np.int64)
    probabilities = table["probability"].to_numpy()
    return Answers(rows.classes, rows.ids, rows.paths, rows.labels, predicted, probabilities)


def _columns(classes: Sequence[str]) -> list[str]:
    return [f"p_{name}" for name in classes]
