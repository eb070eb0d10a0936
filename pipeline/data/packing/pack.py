"""Images become shards: read, checked against the index, preprocessed, in path order."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from pipeline.data.images.decode import Pixels, UnusableImageError
from pipeline.data.packing.preprocess import preprocess
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.data.shards.shards import SetInfo, ShardWriter
from pipeline.data.sources.source import ImageSource, read_ahead
from pipeline.errors import PipelineError
from pipeline.parallel import map_chunks


class PackRow(NamedTuple):
    """One image of a split.

    Attributes:
        path: names the image within its source.
        label: index into the classes.
        sha256: of the content when it was indexed, hex.
    """

    path: str
    label: int
    sha256: str


def pack(
    rows: Sequence[PackRow],
    source: ImageSource,
    info: SetInfo,
    folder: Path,
    workers: int | None = None,
) -> None:
    """Preprocess images, in the order given, and write them as shards to `folder`.

    Args:
        rows: of one split.
        source: of their bytes.
        info: what the rows share, with how to preprocess them.
        folder: holds no shards yet.
        workers: threads, None for all cores; the shards are the same whatever it is.

    Raises:
        PipelineError: an image is gone, differs from what was indexed, or cannot be decoded.
    """
    cv2.setNumThreads(1)  # our own threads share the cores already
    with ShardWriter(folder, info, info.rows_per_shard) as writer:
        pieces = map_chunks(
            partial(preprocess_rows, source=source, info=info),
            rows,
            chunk=info.rows_per_batch,
            label=f"pack {folder.name}",
            workers=workers,
            threads=True,
        )
        start = 0
        for images in pieces:
            packed = rows[start : start + len(images)]
            start += len(images)
            writer.write(
                images,
                [row.label for row in packed],
                [row.sha256 for row in packed],
                [None] * len(packed),
                [row.path for row in packed],
            )


def preprocess_rows(rows: Sequence[PackRow], source: ImageSource, info: SetInfo) -> Pixels:
    """Read and preprocess images: n x height x width x channels.

    Raises:
        PipelineError: an image is gone, differs from what was indexed, or cannot be decoded.
    """
    images = np.empty((len(rows), *info.shape), info.dtype)
    contents = read_ahead(source, [row.path for row in rows])
    for image, row, content in zip(images, rows, contents, strict=True):
        name = f"{source.folder}/{row.path}"
        image[:] = _preprocess_row(row, content, info.preprocessing, name)
    return images


def _preprocess_row(
    row: PackRow, content: bytes | UnusableImageError, preprocessing: Preprocessing, name: str
) -> Pixels:
    if isinstance(content, UnusableImageError):
        reason = str(content).removeprefix("unreadable: ")
        raise PipelineError(
            f"{name} was indexed but cannot be read now ({reason}); run dvc repro"
        ) from content
    # The same content was verified when it was indexed: OpenCV may trust it to be whole.
    if hashlib.sha256(content).hexdigest() != row.sha256:
        raise PipelineError(f"{name} changed since it was indexed; run dvc repro")
    try:
        return preprocess(content, preprocessing)
    except UnusableImageError as error:
        raise PipelineError(f"{name}: {error}; mend or remove it and run dvc repro") from error
