"""Which files a data set consists of, with what is known before any of them is opened."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pipeline.data.sources.manifest import Entry, read_manifest
from pipeline.errors import PipelineError, some
from pipeline.files import as_text

# How given splits may be called.
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

SCANNED = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("split", pa.string()),
        pa.field("group", pa.string()),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("obstacle", pa.string()),  # why the file is not to be opened
    ]
)

_OUTSIDE = "symbolic link to outside the data folder; put the file itself there"
_LINKED_FOLDER = "symbolic link to a folder, which is not followed; put the folder itself there"
_NOTES = {".md", ".txt"}


@dataclass(frozen=True)
class Scan:
    """The files of a data set.

    Attributes:
        folder: what the paths are relative to.
        files: `SCANNED`, sorted by path.
        ignored: files beside the class folders, which belong to no class.
    """

    folder: Path
    files: pa.Table
    ignored: tuple[str, ...]


def scan(root: Path) -> Scan:
    """List the files of a folder or a manifest; opens none of the images.

    Args:
        root: a folder of class folders; a folder with train/, val/, test/ that hold class
            folders; or a .csv or .parquet manifest.

    Raises:
        PipelineError: there is no such thing, it has another shape, or a class is empty.
    """
    if root.is_dir():
        return _scan_folder(root)
    if not root.exists():
        raise PipelineError(
            f"data.root is {root}: no such folder or manifest in {Path.cwd()}; set data.root in"
            " params.yaml to a folder of class folders or a .csv or .parquet manifest"
        )
    entries = read_manifest(root, SPLITS)
    inside = _Inside(root.parent)
    rows = [_row(entry, *inside.look(entry.path)) for entry in entries]
    return Scan(root.parent, _table(rows), ())


def _scan_folder(root: Path) -> Scan:
    """List a folder of class folders, or of given splits that hold class folders."""
    folders, loose = _children(root)
    splits = [name for name in folders if name.lower() in SPLITS]
    if splits and len(splits) < len(folders):
        classes = [name for name in folders if name not in splits]
        raise PipelineError(
            f"{root} mixes folders of given splits ({some(splits)}) with others ({some(classes)});"
            " move the others into train/, or rename a class that is called like a split"
        )
    ignored = loose
    # Folder, label, given split.
    class_folders: list[tuple[str, str, str | None]] = []
    if not splits:
        class_folders = [(name, name, None) for name in folders]
    else:
        for name in splits:
            inner, inner_loose = _children(root / name)
            ignored += [f"{name}/{file}" for file in inner_loose]
            class_folders += [(f"{name}/{label}", label, SPLITS[name.lower()]) for label in inner]
    if not class_folders:
        if splits:
            raise PipelineError(
                f"{root}: found no class folders in {some(splits)}, whose names mean given splits;"
                " make one folder per class in each, such as train/cats/, or rename them if they"
                " are the classes"
            )
        raise PipelineError(
            f"{root} has no class folders{f', but files: {some(loose)}' if loose else ''}; expected"
            " one folder per class with its images, such as cats/ and dogs/"
        )
    inside = _Inside(root)
    rows: list[tuple[object, ...]] = []
    empty = []
    for folder, label, split in class_folders:
        found = [
            _row(Entry(path, label, split, None), *inside.look(path))
            for path in _files(root, folder)
        ]
        rows += found
        empty += [] if found else [folder]
    if empty:
        raise PipelineError(
            f"{root}: no files in the class folders {some(empty)}; add images or remove the folders"
        )
    return Scan(root, _table(rows), tuple(ignored))


def _children(folder: Path) -> tuple[list[str], list[str]]:
    """Return the folders and the unexplained files directly in `folder`, sorted."""
    try:
        with os.scandir(folder) as entries:
            shown = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise PipelineError(f"cannot list {folder}: {error.strerror}; allow reading it") from error
    folders = [entry.name for entry in shown if entry.is_dir()]
    files = [
        entry.name
        for entry in shown
        if not entry.is_dir() and Path(entry.name).suffix.lower() not in _NOTES
    ]
    return folders, files


def _files(root: Path, folder: str) -> Iterator[str]:
    """Yield the paths of all files below `folder` but hidden ones, relative to `root`."""
    if (root / folder).is_symlink():
        yield folder
        return
    try:
        with os.scandir(root / folder) as entries:
            shown = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise PipelineError(
            f"cannot list {root / folder}: {error.strerror}; allow reading it"
        ) from error
    for entry in shown:
        path = f"{folder}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _files(root, path)
        else:
            yield path


class _Inside:
    """Looks at files without opening them, and sees to it that they lie in the data folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._real = os.path.realpath(folder)
        self._parents: dict[str, bool] = {}

    def look(self, path: str) -> tuple[int, int, str | None]:
        """Return size in bytes, modification time in ns, and why not to open the file."""
        whole = self._folder / path
        if not self._contains_parent(whole):
            return 0, 0, _OUTSIDE
        try:
            status = whole.lstat()
            if stat.S_ISLNK(status.st_mode):
                if not self._contains(whole):
                    return 0, 0, _OUTSIDE
                status = whole.stat()
        except OSError as error:
            return 0, 0, f"unreadable: {error.strerror}"
        if stat.S_ISDIR(status.st_mode):
            return 0, 0, _LINKED_FOLDER if whole.is_symlink() else "a folder, not a file"
        if not stat.S_ISREG(status.st_mode):
            return 0, 0, "not a regular file"
        return status.st_size, status.st_mtime_ns, None

    def _contains_parent(self, whole: Path) -> bool:
        parent = os.path.dirname(whole)  # noqa: PTH120 - once per file; a Path costs ten times more
        if parent not in self._parents:
            self._parents[parent] = self._contains(Path(parent))
        return self._parents[parent]

    def _contains(self, whole: Path) -> bool:
        real = os.path.realpath(whole)
        return real == self._real or real.startswith(self._real.rstrip(os.sep) + os.sep)


def _row(entry: Entry, size: int, mtime_ns: int, obstacle: str | None) -> tuple[object, ...]:
    """Make one row of `SCANNED`; a name that is not text is spelt out and not opened."""
    path = entry.path
    try:
        path.encode()
    except UnicodeEncodeError:
        path = as_text(path)
        obstacle = "file name is not UTF-8; rename it"
    return path, as_text(entry.label), entry.split, entry.group, size, mtime_ns, obstacle


def _table(rows: list[tuple[object, ...]]) -> pa.Table:
    columns = zip(*sorted(rows, key=lambda row: str(row[0])), strict=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCANNED, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCANNED)
