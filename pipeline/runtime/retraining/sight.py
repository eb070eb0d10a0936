"""What the champion makes of images: embeddings and posteriors, remembered by content."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.data.packing.pack import PackRow, preprocess_rows
from pipeline.data.shards.shards import SetInfo
from pipeline.data.sources.source import ImageSource
from pipeline.files import atomic_path
from pipeline.parallel import map_chunks
from pipeline.vision.inference.bundle import load_bundle
from pipeline.vision.inference.predict import embeddings, probabilities


@dataclass(frozen=True)
class Seen:
    """Of n images.

    Attributes:
        vectors: n x d, the features below the head.
        posteriors: n x k.
    """

    vectors: npt.NDArray[np.float32]
    posteriors: npt.NDArray[np.float64]


class Sight:
    """A model that looks at image files; at each content once."""

    def __init__(self, bundle: Path, source: ImageSource, cache: Path) -> None:
        """Load the model.

        Args:
            bundle: its folder.
            source: of the image files.
            cache: folder for what was seen before, by model.

        Raises:
            PipelineError: the bundle is damaged.
        """
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._bundle = load_bundle(bundle, device)
        self._source = source
        self._file = cache / f"{self._bundle.digest}.parquet"

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that the model knows."""
        return self._bundle.classes

    def see(self, images: Sequence[tuple[str, str]], label: str) -> Seen:
        """Look at images.

        Args:
            images: path and content hash of each.
            label: what the progress bar says.

        Raises:
            PipelineError: a file is gone or has another content by now.
        """
        known = _read(self._file)
        new = [PackRow(path, 0, sha256) for path, sha256 in images if sha256 not in known]
        preprocessing = self._bundle.preprocessing
        info = SetInfo(self.classes, preprocessing, f"uint{preprocessing.bit_depth}")
        pieces = map_chunks(
            partial(preprocess_rows, source=self._source, info=info),
            new,
            chunk=info.rows_per_batch,
            label=label,
            threads=True,
        )
        start = 0
        for pixels in pieces:
            rows = new[start : start + len(pixels)]
            start += len(pixels)
            vectors = embeddings(self._bundle, [pixels])
            posteriors = probabilities(self._bundle, [pixels])
            known |= {
                row.sha256: seen for row, *seen in zip(rows, vectors, posteriors, strict=True)
            }
        if new:
            _write(self._file, known)
        wanted = [known[sha256] for _, sha256 in images]
        return Seen(
            np.array([vector for vector, _ in wanted], np.float32),
            np.array([posterior for _, posterior in wanted], np.float64).reshape(
                len(wanted), len(self.classes)
            ),
        )

    def pixels(self, images: Sequence[tuple[str, str]]) -> list[npt.NDArray[Any]]:
        """Return images as the model sees them, in 8 or 16 bits."""
        preprocessing = self._bundle.preprocessing
        info = SetInfo(self.classes, preprocessing, f"uint{preprocessing.bit_depth}")
        rows = [PackRow(path, 0, sha256) for path, sha256 in images]
        return list(preprocess_rows(rows, self._source, info))


def some_by_content(contents: Sequence[str], most: int) -> list[int]:
    """Choose at most so many images by their content, so that growth changes few of them."""
    order = sorted(
        range(len(contents)), key=lambda i: hashlib.sha256(contents[i].encode()).digest()
    )
    return sorted(order[:most])


_Vectors = list[npt.NDArray[np.floating]]


def _read(file: Path) -> dict[str, _Vectors]:
    """Return what is remembered; nothing when the file is absent or damaged."""
    try:
        table = pq.read_table(file)
        vectors, posteriors = (np.stack(table[name].to_numpy()) for name in ("vector", "posterior"))
        ids = table["id"].to_pylist()
    except (OSError, KeyError, ValueError, pa.ArrowException):
        return {}
    return {one: list(seen) for one, *seen in zip(ids, vectors, posteriors, strict=True)}


def _write(file: Path, known: dict[str, _Vectors]) -> None:
    columns = {
        "id": pa.array(list(known), pa.string()),
        "vector": pa.array([seen[0] for seen in known.values()], pa.list_(pa.float32())),
        "posterior": pa.array([seen[1] for seen in known.values()], pa.list_(pa.float64())),
    }
    with atomic_path(file) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")
