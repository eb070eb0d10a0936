"""Which files make up some paths of a workspace, by content."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Self

from pipeline.errors import PipelineError
from pipeline.files import atomic_path
from pipeline.progress import progress_bar


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
    """Files of a workspace, sorted by path."""

    files: tuple[File, ...]

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
        return json.dumps(rows, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, content: bytes, where: str) -> Self:
        """Read it back.

        Raises:
            PipelineError: it is damaged, or a path leads out of the workspace.
        """
        try:
            rows = _rows(content)
            files = tuple(File(str(path), str(digest), int(size)) for path, digest, size in rows)
        except (ValueError, TypeError) as error:
            raise PipelineError(f"{where} is damaged ({error}); remove it and run again") from error
        for file in files:
            pure = PurePosixPath(file.path)
            if pure.is_absolute() or ".." in pure.parts or len(file.sha256) != 64:
                raise PipelineError(f"{where} names {file.path!a}, which leads out of a workspace")
        return cls(files)


def _rows(content: bytes) -> list[Any]:
    rows = json.loads(content)
    if not isinstance(rows, list):
        raise TypeError("expected a list")
    return rows


def snapshot(workspace: Path, paths: Iterable[str], known: "DigestCache") -> Tree:
    """Hash the files at, or below, some paths of a workspace; those that do not exist have none."""
    found = sorted({path for start in paths for path in _files(workspace, start)})
    sizes = {path: (workspace / path).stat().st_size for path in found}
    files = []
    with progress_bar(sum(sizes.values()), "digests", "B") as bar:
        for path in found:
            files.append(File(path, known.digest(path), sizes[path]))
            bar.update(sizes[path])
    known.save()
    return Tree(tuple(files))


def _files(workspace: Path, start: str) -> Iterator[str]:
    top = workspace / start
    if top.is_file():
        yield PurePosixPath(start).as_posix()
    for folder, _, names in os.walk(top, followlinks=True):
        for name in names:
            if not (name.startswith(".") and name.endswith(".tmp")):  # being written
                yield (Path(folder) / name).relative_to(workspace).as_posix()


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
