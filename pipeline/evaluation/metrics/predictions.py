"""Predictions as Parquet: who said what about which image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.metrics.rows import Rows, read_rows, write_rows


@dataclass(frozen=True)
class Predictions(Rows):
    """Posteriors of one model on n images of k classes.

    Attributes:
        probabilities: n x k in the order of the classes, rows sum to 1.
    """

    probabilities: npt.NDArray[np.float64]


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write the columns id, path, label (the class's name) and probabilities (a list each)."""
    write_rows(path, predictions, "probabilities")


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises:
        PipelineError: the file is missing or damaged, or is something else.
    """
    return read_rows(path, Predictions, "probabilities")
