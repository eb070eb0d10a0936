"""Images become shards: read, checked against the index, preprocessed, in path order.

The pixels of content that the run before packed in the same way are copied, without reading it.
"""

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from pipeline.data.images import decode
from pipeline.data.images.decode import Pixels, UnusableImageError
from pipeline.data.packing import preprocess as preprocessing_code
from pipeline.data.packing.preprocess import preprocess
from pipeline.data.reuse import Rows, images_of, reuse_key
from pipeline.data.shards import shards
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.data.shards.shards import ImageSet, SetInfo, ShardWriter
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


def pack_key(info: SetInfo) -> str:
    """Name what packed pixels depend on besides the content of the file."""
    modules = (decode, preprocessing_code, shards)
    return reuse_key(info, modules, ("pillow", "opencv-python-headless", "numpy", "pyarrow"))


def pack(
    rows: Sequence[PackRow],
    source: ImageSource,
    info: SetInfo,
    folder: Path,
    workers: int | None = None,
    *,
    kept: ImageSet | None = None,
) -> None:
    """Preprocess images, in the order given, and write them as shards to `folder`.

    Args:
        rows: of one split.
        source: of their bytes.
        info: what the rows share, with how to preprocess them.
        folder: holds no shards yet.
        workers: threads, None for all cores; the shards are the same whatever it is.
        kept: images that were packed before under the same `pack_key`, whose files are not read.

    Raises:
        PipelineError: an image is gone, differs from what was indexed, or cannot be decoded.
    """

    def make(new: Rows) -> Iterator[Pixels]:
        return map_chunks(
            partial(preprocess_rows, source=source, info=info),
            [rows[row] for row in new.tolist()],
            chunk=info.rows_per_batch,
            label=f"pack {folder.name}",
            workers=workers,
            threads=True,
        )

    cv2.setNumThreads(1)  # our own threads share the cores already
    with ShardWriter(folder, info, info.rows_per_shard) as writer:
        ids = [row.sha256 for row in rows]
        start = 0
        for images in images_of(ids, kept, make, info.rows_per_batch):
            packed = rows[start : start + len(images)]
            start += len(images)
            writer.write(
                images,
                [row.label for row in packed],
                ids[start - len(packed) : start],
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
