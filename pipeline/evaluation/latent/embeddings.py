"""Latent vectors as Parquet."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.evaluation.metrics.rows import Rows, read_rows, write_rows


@dataclass(frozen=True)
class Embeddings(Rows):
    """Latent vectors of n images.

    Attributes:
        vectors: n x d.
    """

    vectors: npt.NDArray[np.float32]


def write_embeddings(path: Path, embeddings: Embeddings) -> None:
    """Write the columns id, path, label (the class's name) and vectors (a list each)."""
    vectors = embeddings.vectors
    flat = pa.array(np.ascontiguousarray(vectors).ravel())
    column = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    write_rows(path, embeddings, {"vectors": column})


def read_embeddings(path: Path) -> Embeddings:
    """Read what `write_embeddings` wrote.

    Raises:
        PipelineError: the file is missing or damaged, or is something else.
    """
    rows, table = read_rows(path, lambda _: ["vectors"])
    column = table["vectors"].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    vectors = flat.reshape(len(table), column.type.list_size)
    return Embeddings(rows.classes, rows.ids, rows.paths, rows.labels, vectors)
