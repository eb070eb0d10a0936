"""Predictions as Parquet: who said what about which image."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import PipelineError
from pipeline.files import atomic_path

_COLUMNS = ["id", "path", "label", "probabilities"]


@dataclass(frozen=True)
class Predictions:
    """Posteriors of one model on n images of k classes.

    Attributes:
        classes: k names, in the order of the probabilities.
        ids: n content hashes.
        paths: n paths as in the index.
        labels: n true class numbers.
        probabilities: n x k, rows sum to 1.
    """

    classes: tuple[str, ...]
    ids: list[str]
    paths: list[str]
    labels: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write the columns id, path, label (the class's name) and probabilities (a list each)."""
    n, k = predictions.probabilities.shape
    offsets = pa.array(np.arange(n + 1, dtype=np.int32) * k)
    flat = pa.array(np.ascontiguousarray(predictions.probabilities, np.float64).ravel())
    columns = {
        "id": pa.array(predictions.ids, pa.string()),
        "path": pa.array(predictions.paths, pa.string()),
        "label": pa.array([predictions.classes[i] for i in predictions.labels], pa.string()),
        "probabilities": pa.ListArray.from_arrays(offsets, flat),
    }
    write_table(path, columns, predictions.classes)


def read_predictions(path: Path) -> Predictions:
    """Read what `write_predictions` wrote.

    Raises:
        PipelineError: the file is missing or damaged, or is something else.
    """
    table, classes = read_table(path, _COLUMNS)
    number = {name: i for i, name in enumerate(classes)}
    flat = table["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return Predictions(
        classes=classes,
        ids=table["id"].to_pylist(),
        paths=table["path"].to_pylist(),
        labels=np.array([number[name] for name in table["label"].to_pylist()], np.int64),
        probabilities=np.asarray(flat, np.float64).reshape(table.num_rows, len(classes)),
    )


def write_table(path: Path, columns: dict[str, Any], classes: tuple[str, ...]) -> None:
    """Write Arrow columns as Parquet, with the class names in the schema's metadata."""
    metadata = {b"classes": json.dumps(list(classes), ensure_ascii=False).encode()}
    with atomic_path(path) as temporary:
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), temporary)


def read_table(path: Path, columns: list[str]) -> tuple[Any, tuple[str, ...]]:
    """Read a table that `write_table` wrote, and its class names.

    Raises:
        PipelineError: the file is missing or damaged, or lacks a column or the class names.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise PipelineError(f"{path} is missing; run dvc repro to make it") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise PipelineError(
            f"{path} is not a whole Parquet file ({error}); delete it and run dvc repro"
        ) from error
    metadata = table.schema.metadata or {}
    if b"classes" not in metadata or table.column_names != columns:
        raise PipelineError(
            f"{path}: expected the columns {', '.join(columns)} and class names, found"
            f" {', '.join(table.column_names)}; delete it and run dvc repro"
        )
    return table, tuple(json.loads(metadata[b"classes"]))
