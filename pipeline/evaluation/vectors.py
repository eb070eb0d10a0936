"""Latent vectors as Parquet."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.evaluation.predictions import read_table, write_table

_COLUMNS = ["id", "path", "label", "vector"]


@dataclass(frozen=True)
class Embeddings:
    """Latent vectors of n images.

    Attributes:
        classes: k names.
        ids: n content hashes.
        paths: n paths as in the index.
        labels: n class numbers.
        vectors: n x d.
    """

    classes: tuple[str, ...]
    ids: list[str]
    paths: list[str]
    labels: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float32]


def write_embeddings(path: Path, embeddings: Embeddings) -> None:
    """Write the columns id, path, label (the class's name) and vector (a list each)."""
    n, d = embeddings.vectors.shape
    offsets = pa.array(np.arange(n + 1, dtype=np.int64) * d)
    flat = pa.array(np.ascontiguousarray(embeddings.vectors, np.float32).ravel())
    columns = {
        "id": pa.array(embeddings.ids, pa.string()),
        "path": pa.array(embeddings.paths, pa.string()),
        "label": pa.array([embeddings.classes[i] for i in embeddings.labels], pa.string()),
        "vector": pa.LargeListArray.from_arrays(offsets, flat),
    }
    write_table(path, columns, embeddings.classes)


def read_embeddings(path: Path) -> Embeddings:
    """Read what `write_embeddings` wrote.

    Raises:
        PipelineError: the file is missing or damaged, or is something else.
    """
    table, classes = read_table(path, _COLUMNS)
    number = {name: i for i, name in enumerate(classes)}
    rows = table["vector"].combine_chunks()
    flat = np.asarray(rows.flatten().to_numpy(zero_copy_only=False), np.float32)
    return Embeddings(
        classes=classes,
        ids=table["id"].to_pylist(),
        paths=table["path"].to_pylist(),
        labels=np.array([number[name] for name in table["label"].to_pylist()], np.int64),
        vectors=flat.reshape(table.num_rows, -1 if table.num_rows else 0),
    )
