"""Latent vectors as Parquet."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

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
    write_rows(path, embeddings, "vectors")


def read_embeddings(path: Path) -> Embeddings:
    """Read what `write_embeddings` wrote.

    Raises:
        PipelineError: the file is missing or damaged, or is something else.
    """
    return read_rows(path, Embeddings, "vectors")
