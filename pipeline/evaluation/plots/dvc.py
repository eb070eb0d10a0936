"""What `dvc plots` draws: tables as CSV."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.evaluation.metrics.precision_recall import Curve
from pipeline.evaluation.metrics.predictions import Predictions
from pipeline.files import atomic_path


def write_answers(path: Path, given: Predictions) -> None:
    """Write true and predicted class of each image."""
    predicted = given.probabilities.argmax(axis=1)
    pairs = zip(given.labels, predicted, strict=True)
    rows = ((given.classes[label], given.classes[answer]) for label, answer in pairs)
    _write_csv(path, ("actual", "predicted"), rows)


def write_curves(path: Path, curves: Mapping[str, Curve]) -> None:
    """Write precision-recall curves, by class name."""
    rows = (
        (name, *(f"{value:.6g}" for value in point))
        for name, curve in curves.items()
        for point in zip(curve.recall, curve.precision, curve.threshold, strict=True)
    )
    _write_csv(path, ("class", "recall", "precision", "threshold"), rows)


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
