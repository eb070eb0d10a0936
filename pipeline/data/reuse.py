"""Pixels of the run before, for the images that have not changed.

DVC removes the outputs of a stage before it runs the stage. The shards that were written stay
beside them as hard links, which take no room of their own while DVC has the same files. An image
is known again by its id, which names all that its pixels depend on but for the code: the code and
the rest stand in a key. Where no link can be made nothing is kept, and the next run makes all.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.data.shards.shards import ImageSet, Pixels, SetInfo
from pipeline.errors import PipelineError
from pipeline.files import fresh_folder, modules_digest

_SHARDS = "*.arrow"
_NOTE = "kept.json"

Rows = npt.NDArray[np.int64]


def reuse_key(info: SetInfo, modules: Sequence[ModuleType], libraries: Sequence[str]) -> str:
    """Name what the pixels of an image depend on besides its id.

    Args:
        info: of the set; the classes do not count.
        modules: whose code makes the pixels.
        libraries: names of the installed packages that do.
    """
    versions = {name: version(name) for name in libraries}
    told = [modules_digest(modules), versions, asdict(info.preprocessing), info.dtype]
    return json.dumps(told, sort_keys=True)


def open_kept(folder: Path, key: str) -> ImageSet | None:
    """Open the images that the run before kept, of all its sets together.

    Args:
        folder: see `keep`.
        key: see `keep`.

    Returns:
        None when nothing was kept, under another key, or a file is not the one that was written.
    """
    try:
        note = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
        shards = sorted(folder.rglob(_SHARDS))
        if note != _note(folder, key):
            return None
        return ImageSet.open(*sorted({shard.parent for shard in shards}))
    except (OSError, ValueError, RecursionError, PipelineError, pa.ArrowException):
        return None


def keep(folder: Path, key: str, written: Path) -> None:
    """Keep the shards of a stage for its next run.

    Args:
        folder: where they are kept, in place of those before.
        key: see `reuse_key`.
        written: the folder of the shards, or of folders of them.
    """
    try:
        with fresh_folder(folder) as fresh:
            for shard in written.rglob(_SHARDS):
                link = fresh / shard.relative_to(written)
                link.parent.mkdir(exist_ok=True)
                link.hardlink_to(shard)
            (fresh / _NOTE).write_text(json.dumps(_note(fresh, key)), encoding="utf-8")
    except OSError:  # another file system, or one without links: the next run makes all
        return


def _note(folder: Path, key: str) -> dict[str, object]:
    """Describe the shards in `folder`, such that one which was written to since shows."""
    files = {}
    for shard in sorted(folder.rglob(_SHARDS)):
        status = os.stat(shard)  # noqa: PTH116 - as everywhere
        name = shard.relative_to(folder).as_posix()
        files[name] = [status.st_size, status.st_mtime_ns, status.st_ino]
    return {"key": key, "files": files}


def images_of(
    ids: Sequence[str],
    kept: ImageSet | None,
    make: Callable[[Rows], Iterator[Pixels]],
    size: int,
) -> Iterator[Pixels]:
    """Yield the images of all rows in order, in pieces: copied where they are kept, else made.

    Args:
        ids: of the rows.
        kept: see `open_kept`.
        make: gets the rows that are not kept, and yields their images in order, in pieces.
        size: images of a piece, but for the last, where some are kept.
    """
    places = {} if kept is None else {name: row for row, name in enumerate(kept.ids)}
    kept_rows = np.array([places.get(name, -1) for name in ids], np.int64)
    made = make(np.flatnonzero(kept_rows < 0))
    if kept is None or (kept_rows < 0).all():
        yield from made
        return
    waiting = np.empty((0, *kept.info.shape), kept.info.dtype)
    for start in range(0, len(ids), size):
        rows = kept_rows[start : start + size]
        new = rows < 0
        while len(waiting) < new.sum():
            waiting = np.concatenate([waiting, next(made)])
        images = np.empty((len(rows), *kept.info.shape), kept.info.dtype)
        images[~new] = kept.gather(rows[~new])
        images[new], waiting = waiting[: new.sum()], waiting[new.sum() :]
        yield images
