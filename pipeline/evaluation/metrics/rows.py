"""Images with a vector each as Parquet: the columns id, path, label and the vector's own."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import PipelineError, some
from pipeline.files import atomic_path, damaged
from pipeline.parquet import read_table


@dataclass(frozen=True)
class Rows:
    """n images of k classes; a derived class adds one field, n vectors.

    Attributes:
        classes: k names.
        ids: n content hashes.
        paths: n paths as in the index.
        labels: n class numbers.
    """

    classes: tuple[str, ...]
    ids: list[str]
    paths: list[str]
    labels: npt.NDArray[np.int64]


R = TypeVar("R", bound=Rows)


def write_rows(path: Path, rows: Rows, vectors: str) -> None:
    """Write id, path, label (the class's name) and the field `vectors` (a list each).

    The names of the classes stand in the schema's metadata.
    """
    values: npt.NDArray[np.floating] = getattr(rows, vectors)
    flat = pa.array(np.ascontiguousarray(values).ravel())
    columns = {
        "id": pa.array(rows.ids, pa.string()),
        "path": pa.array(rows.paths, pa.string()),
        "label": pa.array([rows.classes[i] for i in rows.labels], pa.string()),
        vectors: pa.FixedSizeListArray.from_arrays(flat, values.shape[1]),
    }
    metadata = {b"classes": json.dumps(rows.classes, ensure_ascii=False).encode()}
    with atomic_path(path) as temporary:
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), temporary)


def read_rows(path: Path, kind: Callable[..., R], vectors: str) -> R:
    """Read what `write_rows` wrote.

    Raises:
        PipelineError: the file is missing or damaged, or is something else.
    """
    table = read_table(path, ["id", "path", "label", vectors])
    metadata = table.schema.metadata or {}
    if b"classes" not in metadata:
        raise PipelineError(f"{path} lacks the names of the classes; delete it and run dvc repro")
    classes = tuple(json.loads(metadata[b"classes"]))
    number = {label: i for i, label in enumerate(classes)}
    names = table["label"].to_pylist()
    if strange := set(names) - set(classes):
        raise damaged(path, f"no class is named {some(strange, 1)}")
    labels = np.array([number[name] for name in names], np.int64)
    ids, paths = table["id"].to_pylist(), table["path"].to_pylist()
    column = table[vectors].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return kind(classes, ids, paths, labels, flat.reshape(len(table), column.type.list_size))
