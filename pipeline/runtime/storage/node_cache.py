"""What a node keeps of the shared storage: each file fetched once, whole, and verified.

blobs/ab/abcdef...    fetched files, read-only
locks/                one for each file that is being fetched
work/                 workspaces, made of links to them
"""

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import PipelineError
from pipeline.progress import progress_bar
from pipeline.runtime.storage.shared import Storage
from pipeline.runtime.storage.trees import File, Tree, hash_file

_TRIES = 3
_AT_ONCE = 8
# A verified file gets this time. One that was changed since has another, and is read again.
_VERIFIED_NS = 1_000_000_000
_LEAST_FREE = 0.05  # of the disk


class DamagedError(PipelineError):
    """The storage holds a file whose content is not what its name says, or lacks it."""


class NodeCache:
    """The files of this node, in `CONVOY_CACHE` or ~/.cache/convoy."""

    def __init__(self, root: Path | None = None) -> None:
        named = os.environ.get("CONVOY_CACHE")
        self.root = root or (Path(named) if named else Path.home() / ".cache" / "convoy")

    def workspace(self, name: str) -> Path:
        """Return the folder of a workspace."""
        return self.root / "work" / name

    def inputs(self, digest: str) -> Path:
        """Return the folder of the inputs with this digest."""
        return self.workspace(f"inputs-{digest}")

    def fetch(self, storage: Storage, file: File) -> Path:
        """Return the file in this cache, where it is whole; processes fetch it one at a time.

        Raises:
            DamagedError: the storage lacks it, or holds another content; that is removed there.
        """
        path = self._blob(file.sha256)
        if self._verified(path, file):
            return path
        with self._locked(file.sha256):
            if self._verified(path, file):
                return path
            if path.exists() and hash_file(path) == file.sha256:
                _seal(path)
                return path
            self._make_room(file.size)
            for _ in range(_TRIES):
                if self._fetch(storage, file, path):
                    return path
        storage.forget(file)
        raise DamagedError(
            f"{file.path} (sha256 {file.sha256[:16]}...) is damaged in the storage {storage.uri};"
            " it was removed there; run again to upload it once more"
        )

    def add(self, path: Path, file: File) -> None:
        """Take in a file of this node, so that it need not be fetched."""
        target = self._blob(file.sha256)
        with self._locked(file.sha256):
            if not self._verified(target, file):
                target.parent.mkdir(parents=True, exist_ok=True)
                temporary = target.with_name(f"{target.name}.tmp")
                shutil.copyfile(path, temporary)
                temporary.replace(target)
                _seal(target)

    def materialize(self, storage: Storage, tree: Tree, folder: Path) -> None:
        """Fetch all files of a tree, and link them to their paths below `folder`.

        Raises:
            DamagedError: see `fetch`.
        """
        with progress_bar(tree.size, "fetch", "B") as bar, ThreadPoolExecutor(_AT_ONCE) as pool:

            def place(file: File) -> None:
                path = folder / file.path
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    _link(self.fetch(storage, file), path)
                except FileNotFoundError:  # another process has just made room
                    _link(self.fetch(storage, file), path)
                bar.update(file.size)

            for path in tree.empty:
                (folder / path).mkdir(parents=True, exist_ok=True)
            for _ in pool.map(place, tree.files):
                pass

    def _fetch(self, storage: Storage, file: File, path: Path) -> bool:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.tmp")
        try:
            storage.get(file, temporary)
            if hash_file(temporary) != file.sha256:
                return False
            temporary.replace(path)
        except FileNotFoundError as error:
            raise DamagedError(
                f"{file.path} (sha256 {file.sha256[:16]}...) is not in the storage {storage.uri};"
                " run again to upload it"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)
        _seal(path)
        return True

    def _verified(self, path: Path, file: File) -> bool:
        try:
            status = path.stat()
        except FileNotFoundError:
            return False
        return status.st_size == file.size and status.st_mtime_ns == _VERIFIED_NS

    def _blob(self, digest: str) -> Path:
        return self.root / "blobs" / digest[:2] / digest

    @contextmanager
    def _locked(self, digest: str) -> Iterator[None]:
        lock = self.root / "locks" / digest[:2]
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            yield

    def _make_room(self, size: int) -> None:
        """Remove files that no workspace links to, those used longest ago first."""
        usage = shutil.disk_usage(self.root)
        wanted = size + _LEAST_FREE * usage.total - usage.free
        if wanted <= 0:
            return
        for folder in (self.root / "work").glob("inputs-*/"):
            _remove_unused(folder)
        unused = []
        for path in (self.root / "blobs").glob("*/*"):
            with suppress(FileNotFoundError):
                status = path.stat()
                if status.st_nlink == 1 and path.suffix != ".tmp":  # which is being fetched
                    unused.append((status.st_atime, status.st_size, path))
        for _, freed, path in sorted(unused):
            with suppress(FileNotFoundError):
                path.unlink()
            wanted -= freed
            if wanted <= 0:
                return


def hold(folder: Path) -> int:
    """Keep inputs from being removed while this process lives, or the descriptor is open."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(f"{folder}.used", os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _remove_unused(folder: Path) -> None:
    """Remove inputs that no process holds, nor makes."""
    with suppress(OSError, Timeout), FileLock(f"{folder}.lock", timeout=0):
        descriptor = os.open(f"{folder}.used", os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (folder / ".convoy" / "complete").unlink(missing_ok=True)
            shutil.rmtree(folder)
        finally:
            os.close(descriptor)


def _seal(path: Path) -> None:
    path.chmod(0o444)
    os.utime(path, ns=(_VERIFIED_NS, _VERIFIED_NS))


def _link(blob: Path, path: Path) -> None:
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    os.link(blob, temporary)
    temporary.replace(path)
    temporary.unlink(missing_ok=True)  # replace leaves it where both were one file already
