"""Image files become shards: read, checked against the index, prepared, in path order."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from pipeline.data.images.decode import Pixels, UnusableImageError
from pipeline.data.packing.preprocess import Preprocessing, prepare
from pipeline.data.shards.shards import SetInfo, ShardWriter
from pipeline.errors import PipelineError
from pipeline.parallel import map_chunks

_BYTES_PER_SHARD = 128 * 2**20


class Source(NamedTuple):
    """One image file of a split.

    Attributes:
        path: relative to the data set's folder.
        label: index into the classes.
        sha256: of the content when it was indexed, hex.
    """

    path: str
    label: int
    sha256: str


def pack(
    sources: Sequence[Source],
    root: Path,
    info: SetInfo,
    folder: Path,
    workers: int | None = None,
) -> None:
    """Prepare `sources`, in the order given, and write them as shards to `folder`.

    Args:
        sources: the rows of one split.
        root: what their paths are relative to.
        info: what the rows share, with how to prepare them.
        folder: holds no shards yet.
        workers: threads, None for all cores; the shards are the same whatever it is.

    Raises:
        PipelineError: a file is gone, differs from what was indexed, or cannot be decoded.
    """
    cv2.setNumThreads(1)  # our own threads share the cores already
    with ShardWriter(folder, info, rows_per_shard(info)) as writer:
        pieces = map_chunks(
            partial(prepare_sources, root=root, info=info),
            sources,
            chunk=info.rows_per_batch,
            label=f"pack {folder.name}",
            workers=workers,
            threads=True,
        )
        start = 0
        for images in pieces:
            rows = sources[start : start + len(images)]
            start += len(images)
            writer.write(
                images,
                [row.label for row in rows],
                [row.sha256 for row in rows],
                [None] * len(rows),
                [row.path for row in rows],
            )


def rows_per_shard(info: SetInfo) -> int:
    """Return how many images make a shard of some 128 MiB; at least one."""
    return max(_BYTES_PER_SHARD // info.bytes_per_image, 1)


def prepare_sources(sources: Sequence[Source], root: Path, info: SetInfo) -> Pixels:
    """Read and prepare image files: n x height x width x channels.

    Raises:
        PipelineError: a file is gone, differs from what was indexed, or cannot be decoded.
    """
    images = np.empty((len(sources), *info.shape), info.dtype)
    for image, row in zip(images, sources, strict=True):
        image[:] = _prepare_file(f"{root}/{row.path}", row, info.preprocessing)
    return images


def _prepare_file(path: str, source: Source, preprocessing: Preprocessing) -> Pixels:
    try:
        content = _read(path)
    except OSError as error:
        raise PipelineError(
            f"{path} was indexed but cannot be read now ({error.strerror}); run dvc repro"
        ) from error
    # The same content was verified when it was indexed: OpenCV may trust it to be whole.
    if hashlib.sha256(content).hexdigest() != source.sha256:
        raise PipelineError(f"{path} changed since it was indexed; run dvc repro")
    try:
        return prepare(content, preprocessing)
    except UnusableImageError as error:
        raise PipelineError(f"{path}: {error}; mend or remove it and run dvc repro") from error


def _read(path: str) -> bytes:
    """Read a file whole; without a buffer, which for small files costs more than reading."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - as does a Path
        return file.read()
