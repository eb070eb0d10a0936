"""Measure all images of a source on all cores, and remember what did not change."""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import PIL
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.data.images import decode, strict
from pipeline.data.indexing import near_duplicates, verify
from pipeline.data.indexing.near_duplicates import HASH_BYTES, THUMBNAIL_SHAPE
from pipeline.data.indexing.verify import Limits, Measurement, measure
from pipeline.data.sources.source import ImageSource, Place, read_ahead
from pipeline.files import atomic_path, modules_digest
from pipeline.parallel import map_chunks

_IMAGES_PER_PIECE = 128

_KEYS = ("path", "version")
_THUMBNAIL_BYTES = THUMBNAIL_SHAPE[0] * THUMBNAIL_SHAPE[1] * THUMBNAIL_SHAPE[2]

# The fields of `Measurement`, in order.
_MEASURED = pa.schema(
    [
        pa.field("bytes", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("phash", pa.binary(HASH_BYTES)),
        pa.field("thumbnail", pa.binary(_THUMBNAIL_BYTES)),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("mode", pa.string()),
        pa.field("bits", pa.int32()),
        pa.field("problem", pa.string()),
    ]
)
_CACHED = pa.schema([*(pa.field(name, pa.string()) for name in _KEYS), *_MEASURED])

# Path and version.
_Image = tuple[str, str]


def measure_all(
    source: ImageSource, images: pa.Table, limits: Limits, cache: Path, workers: int | None = None
) -> pa.Table:
    """Measure the images of a source; only those that are new or changed are read.

    An image is unchanged when its path and version are, and what measures it is the same.

    Args:
        source: of the images.
        images: as the source lists them.
        limits: what is usable.
        cache: the folder of remembered measurements.
        workers: processes; None uses all cores.

    Returns:
        The columns of the listing and of `Measurement`, sorted by path.
    """
    file = cache / f"{_cache_key(source.folder, limits)}.parquet"
    known = _read_cache(file)
    found = pc.index_in(_names(images), value_set=_names(known))
    readable = pc.is_null(images["obstacle"])
    new = images.filter(pc.and_(readable, pc.is_null(found))).select(_KEYS)
    pieces: list[pa.Table] = []
    items: list[_Image] = list(zip(*(new[name].to_pylist() for name in _KEYS), strict=True))
    try:
        function = partial(_measure_piece, source, limits)
        pieces.extend(
            map_chunks(function, items, chunk=_IMAGES_PER_PIECE, label="index", workers=workers)
        )
    finally:
        # Also when interrupted: the next run goes on from here.
        kept = known.take(found.filter(readable).drop_null())
        known = pa.concat_tables([kept, *pieces])
        if items:
            _write_cache(file, known)
    measured = known.take(pc.index_in(_names(images), value_set=_names(known)))
    problem = pc.coalesce(images["obstacle"], measured["problem"])
    columns = {name: images[name] for name in images.column_names if name != "obstacle"}
    columns |= {name: measured[name] for name in _MEASURED.names if name != "problem"}
    return pa.table(columns | {"problem": problem})


def _names(images: pa.Table) -> pa.ChunkedArray:
    """Name each image together with its version."""
    return pc.binary_join_element_wise(*(images[name] for name in _KEYS), "\0")


def _measure_piece(source: ImageSource, limits: Limits, images: Sequence[_Image]) -> pa.Table:
    """Measure a piece of the images. Runs in a worker."""
    contents = read_ahead(source, [path for path, _ in images], limits.max_pixels)
    rows = [
        image + astuple(measure(content, limits))
        for image, content in zip(images, contents, strict=True)
    ]
    columns = zip(*rows, strict=True)
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, _CACHED, strict=True)],
        schema=_CACHED,
    )


def _cache_key(folder: Place, limits: Limits) -> str:
    """Name all that a measurement depends on besides the image."""
    place = folder.resolve() if isinstance(folder, Path) else folder
    text = f"{measuring()}\n{place}\n{limits.max_pixels}\n{limits.min_side}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def measuring(*more: ModuleType) -> str:
    """Return the versions of what decodes and hashes: of the libraries, and of our own code.

    Args:
        more: modules whose code counts too.
    """
    libraries = f"{PIL.__version__} {cv2.__version__} {np.__version__}"
    return f"{libraries} {modules_digest((decode, strict, near_duplicates, verify, *more))}"


def _read_cache(file: Path) -> pa.Table:
    """Return what is remembered; nothing when the file is absent or damaged."""
    try:
        with pq.ParquetFile(file) as stored:
            known = stored.read()
    except (OSError, pa.ArrowException):
        return _CACHED.empty_table()
    return known if known.schema.equals(_CACHED) else _CACHED.empty_table()


def _write_cache(file: Path, known: pa.Table) -> None:
    # What could not be read may be readable next time without having changed.
    read = known.filter(pc.is_valid(known["sha256"]))
    with atomic_path(file) as temporary:
        pq.write_table(read, temporary, compression="zstd")


assert ["size", *_MEASURED.names[1:]] == list(Measurement.__dataclass_fields__)
