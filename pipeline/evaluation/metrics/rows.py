"""Images with figures each as Parquet: the columns id, path, label and further ones."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import PipelineError, some
from pipeline.files import atomic_path, damaged
from pipeline.parquet import read_table


@dataclass(frozen=True)
class Rows:
    """n images of k classes; a derived class adds what is known of each image.

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


def write_rows(
    path: Path,
    rows: Rows,
    columns: Mapping[str, pa.Array],
    further: Mapping[bytes, bytes] | None = None,
) -> None:
    """Write id, path, label (the class's name) and further columns.

    The names of the classes stand in the schema's metadata, in their order, with what is `further`
    to be said of all rows.
    """
    table = {
        "id": pa.array(rows.ids, pa.string()),
        "path": pa.array(rows.paths, pa.string()),
        "label": pa.array([rows.classes[i] for i in rows.labels], pa.string()),
        **columns,
    }
    metadata = {b"classes": json.dumps(rows.classes, ensure_ascii=False).encode()}
    metadata |= further or {}
    whole = pa.table(table).replace_schema_metadata(metadata)
    with atomic_path(path) as temporary:
        # Figures hardly repeat: a dictionary of them takes time and room.
        pq.write_table(whole, temporary, use_dictionary=["label", "predicted"])


def read_rows(
    path: Path, columns: Callable[[Sequence[str]], Sequence[str]]
) -> tuple[Rows, pa.Table]:
    """Read what `write_rows` wrote, and the columns that `columns` names for these classes.

    Raises:
        PipelineError: the file is missing or damaged, or is something else.
    """
    table = read_table(path, ["id", "path", "label"])
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
    return Rows(classes, ids, paths, labels), read_table(path, columns(classes))
