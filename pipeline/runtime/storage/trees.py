"""Which files make up some paths of a workspace, by content."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import Any, Self

from pipeline.errors import PipelineError
from pipeline.files import as_text, atomic_path
from pipeline.progress import progress_bar

_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, order=True)
class File:
    """A file of a workspace.

    Attributes:
        path: relative to the workspace, with forward slashes.
        sha256: of its content, hex.
        size: bytes.
    """

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Tree:
    """Files of a workspace.

    Attributes:
        files: sorted by path.
        empty: folders that were asked for and hold no file, sorted. DVC tracks those, too.
    """

    files: tuple[File, ...]
    empty: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Of paths and contents: sha256, hex."""
        return hashlib.sha256(self.to_json()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(file.size for file in self.files)

    def to_json(self) -> bytes:
        """Return it as JSON; equal trees give equal bytes."""
        rows = [[file.path, file.sha256, file.size] for file in self.files]
        folders = [[path] for path in self.empty]
        # A name that is no UTF-8 has no other form than an escaped one.
        return json.dumps([*rows, *folders], separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, content: bytes, where: str) -> Self:
        """Read it back.

        Raises:
            PipelineError: it is damaged, or a path leads out of the workspace.
        """
        try:
            rows = _rows(content)
            files = tuple(File(str(p), str(d), int(s)) for p, d, s in (r for r in rows if r[1:]))
            empty = tuple(str(path) for (path,) in (row for row in rows if not row[1:]))
        except (ValueError, TypeError, LookupError) as error:
            raise PipelineError(f"{where} is damaged ({error}); remove it and run again") from error
        for path in (*(file.path for file in files), *empty):
            if leads_out(path):
                raise PipelineError(f"{where} names {path!a}, which leads out of a workspace")
        for file in files:
            if not _SHA256.fullmatch(file.sha256):
                raise PipelineError(f"{where} names {file.sha256!a}, which is no sha256")
        return cls(files, empty)


def leads_out(path: str) -> bool:
    """Whether a path leads out of the folder that it is relative to, or is that folder."""
    pure = PurePosixPath(path)
    return pure.is_absolute() or ".." in pure.parts or not pure.parts


def _rows(content: bytes) -> list[Any]:
    rows = json.loads(content)
    if not isinstance(rows, list):
        raise TypeError("expected a list")
    return rows


def snapshot(workspace: Path, paths: Iterable[str], known: "DigestCache") -> Tree:
    """Hash the files at, or below, some paths of a workspace; those that do not exist have none.

    Links are followed: what they lead to is taken.

    Raises:
        PipelineError: a link leads nowhere or to a folder that it lies in, or something is no file.
    """
    below = {start: list(_files(workspace, start)) for start in paths}
    found = sorted({path for files in below.values() for path in files})
    empty = {start for start, files in below.items() if not files and (workspace / start).is_dir()}
    sizes = {path: _size(workspace / path) for path in found}
    files = []
    with progress_bar(sum(sizes.values()), "digests", "B") as bar:
        for path in found:
            files.append(File(path, known.digest(path), sizes[path]))
            bar.update(sizes[path])
    known.save()
    return Tree(tuple(files), tuple(sorted(PurePosixPath(path).as_posix() for path in empty)))


def _size(path: Path) -> int:
    try:
        status = path.stat()
    except OSError as error:
        raise PipelineError(
            f"{as_text(path)} cannot be read ({error.strerror}), expected a file; see by ls -l"
            " whether it is a link that leads nowhere"
        ) from error
    if not S_ISREG(status.st_mode):
        raise PipelineError(f"{as_text(path)} is no file, and cannot travel; take it away")
    return status.st_size


def _files(workspace: Path, start: str) -> Iterator[str]:
    top = workspace / start
    if top.is_file():
        yield PurePosixPath(start).as_posix()
    for folder, folders, names in os.walk(top, followlinks=True):
        for name in folders:
            link = Path(folder, name)
            if link.is_symlink() and _leads_back(link):
                raise PipelineError(
                    f"{as_text(link)} is a link to a folder that it lies in, so that it has no end;"
                    " take it away"
                )
        for name in names:
            if not (name.startswith(".") and name.endswith(".tmp")):  # being written
                yield (Path(folder) / name).relative_to(workspace).as_posix()


def _leads_back(link: Path) -> bool:
    """Whether a link leads to a folder on the way to it, also by way of other links."""
    target = link.resolve()
    return any(folder.resolve().is_relative_to(target) for folder in link.parents)


class DigestCache:
    """Remembers the sha256 of files that have not changed, by size, time and inode."""

    def __init__(self, workspace: Path, file: Path) -> None:
        """Read what is remembered of a workspace in `file`; nothing, where it is damaged."""
        self._workspace, self._file, self._changed = workspace, file, False
        try:
            self._known: dict[str, list[Any]] = dict(json.loads(file.read_bytes()))
        except (OSError, ValueError, TypeError):
            self._known = {}

    def digest(self, path: str) -> str:
        """Return the digest of a file."""
        status = (self._workspace / path).stat()
        state = [status.st_size, status.st_mtime_ns, status.st_ino]
        match self._known.get(path):
            case [size, time_ns, inode, str(digest)] if [size, time_ns, inode] == state:
                return digest
        digest = hash_file(self._workspace / path)
        self._known[path], self._changed = [*state, digest], True
        return digest

    def save(self) -> None:
        """Write what is remembered."""
        if self._changed:
            with atomic_path(self._file) as temporary:
                temporary.write_text(json.dumps(self._known))
            self._changed = False


def hash_file(path: Path) -> str:
    """Return the sha256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
