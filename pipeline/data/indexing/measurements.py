"""Measure all files of a scan on all cores, and remember what did not change."""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.data.indexing.near_duplicates import HASH_BYTES, THUMBNAIL_SHAPE
from pipeline.data.indexing.verify import Limits, Measured, measure_file
from pipeline.data.sources.scan import Scan
from pipeline.files import atomic_path
from pipeline.parallel import map_chunks

# Raise when `measure_file` finds something else in the same file: it outdates all caches.
_VERSION = 2

_FILES_PER_PIECE = 128

_KEYS = ("path", "bytes", "mtime_ns")
_THUMBNAIL_BYTES = THUMBNAIL_SHAPE[0] * THUMBNAIL_SHAPE[1] * THUMBNAIL_SHAPE[2]

# The fields of `Measured`, in order.
_MEASURED = pa.schema(
    [
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
_CACHED = pa.schema(
    [
        pa.field("path", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        *_MEASURED,
    ]
)

# Path, size in bytes, modification time in ns.
_File = tuple[str, int, int]


def measure_all(scan: Scan, limits: Limits, cache: Path, workers: int | None = None) -> pa.Table:
    """Measure the files of a scan; only those that are new or changed are opened.

    A file is unchanged when its path, size and modification time are.

    Args:
        scan: from `scan`.
        limits: what is usable.
        cache: the folder of remembered measurements.
        workers: processes; None uses all cores.

    Returns:
        The columns of the scan and of `Measured`, sorted by path.
    """
    file = cache / f"{_cache_key(scan.folder, limits)}.parquet"
    known = _read_cache(file)
    openable = scan.files.filter(pc.is_null(scan.files["obstacle"]))
    files = openable.select(_KEYS)
    new = files.join(known.select(_KEYS), list(_KEYS), join_type="left anti").sort_by("path")
    pieces: list[pa.Table] = []
    items: list[_File] = list(zip(*(new[name].to_pylist() for name in _KEYS), strict=True))
    try:
        function = partial(_measure_files, scan.folder, limits)
        pieces.extend(
            map_chunks(function, items, chunk=_FILES_PER_PIECE, label="index", workers=workers)
        )
    finally:
        # Also when interrupted: the next run goes on from here.
        known = pa.concat_tables([known.join(files, list(_KEYS), join_type="left semi"), *pieces])
        if items:
            _write_cache(file, known)
    joined = scan.files.join(known, list(_KEYS), join_type="left outer").sort_by("path")
    problem = pc.coalesce(joined["obstacle"], joined["problem"])
    return joined.drop_columns(["obstacle", "problem"]).append_column("problem", problem)


def _measure_files(folder: Path, limits: Limits, files: Sequence[_File]) -> pa.Table:
    """Measure a piece of the files. Runs in a worker."""
    rows = [file + astuple(measure_file(folder / file[0], limits)) for file in files]
    columns = zip(*rows, strict=True)
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, _CACHED, strict=True)],
        schema=_CACHED,
    )


def _cache_key(folder: Path, limits: Limits) -> str:
    """Name what a measurement depends on besides the file."""
    text = f"{_VERSION}\n{folder.resolve()}\n{limits.max_pixels}\n{limits.min_side}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def _read_cache(file: Path) -> pa.Table:
    """Return what is remembered; nothing when the file is absent or damaged."""
    try:
        return pq.read_table(file, schema=_CACHED)
    except (OSError, pa.ArrowException):
        return _CACHED.empty_table()


def _write_cache(file: Path, known: pa.Table) -> None:
    # A file that could not be read may be readable next time without having changed.
    read = known.filter(pc.is_valid(known["sha256"]))
    with atomic_path(file) as temporary:
        pq.write_table(read, temporary, compression="zstd")


assert list(_MEASURED.names) == list(Measured.__dataclass_fields__)
