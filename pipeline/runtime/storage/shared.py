"""The storage that all processes of a cluster reach: a shared folder, or a bucket by fsspec.

    blobs/ab/abcdef...      files, named by the sha256 of their content
    trees/<digest>.json     which files make up some paths of a workspace
    jobs/<identity>/        what a job is, and its result
    runs/<name>/            the checkpoints of a training

Credentials and endpoints come from the environment, as the file system's library reads them.
"""

import shutil
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import PipelineError
from pipeline.progress import progress_bar
from pipeline.remote import AT_ONCE, PATIENCE_S, Remote, is_uri, reason
from pipeline.runtime.storage.trees import File

T = TypeVar("T")

_LISTED = 200  # so many files and more are looked for by one listing


class Storage:
    """A shared folder or bucket. Each call goes on trying while the storage does not answer."""

    def __init__(self, uri: str, patience_s: float = PATIENCE_S) -> None:
        """Take where it is; nothing is connected yet.

        Args:
            uri: a path, or what fsspec opens, such as s3://bucket/prefix.
            patience_s: how long a call tries again.

        Raises:
            PipelineError: fsspec knows no such file system, or lacks its library.
        """
        uri = uri.removeprefix("file://")
        self.uri, self.is_folder = uri.rstrip("/"), not is_uri(uri)
        self._remote = remote = Remote(uri, "storage", "resources.storage", patience_s)
        self._ask, self._fs, self._root = remote.ask, remote.fs, remote.root

    def has(self, files: Iterable[File]) -> set[str]:
        """Return the digests of those files that are there in full length."""
        wanted = {file.sha256: file.size for file in files}
        if len(wanted) < _LISTED:
            sizes = _together(lambda digest: (digest, self._size(_blob(digest))), wanted)
            return {digest for digest, size in sizes if size == wanted[digest]}
        found: dict[str, Any] = self._ask(lambda: self._fs.find(self._at("blobs"), detail=True), {})
        listed = ((path.rpartition("/")[2], info["size"]) for path, info in found.items())
        return {digest for digest, size in listed if wanted.get(digest) == size}

    def put(self, files: Iterable[File], folder: Path, label: str) -> int:
        """Upload the files below `folder` that are not there yet; return the bytes sent."""
        each = {file.sha256: file for file in files}
        there = self.has(each.values())
        missing = [file for digest, file in each.items() if digest not in there]
        with progress_bar(sum(file.size for file in missing), label, "B") as bar:

            def send(file: File) -> None:
                self.put_file(folder / file.path, _blob(file.sha256))
                bar.update(file.size)

            _together(send, missing)
        return sum(file.size for file in missing)

    def get(self, file: File, to: Path) -> None:
        """Download a file. Its content is not looked at.

        Raises:
            FileNotFoundError: it is not there.
        """
        self.get_file(_blob(file.sha256), to)

    def forget(self, file: File) -> None:
        """Remove a file that is damaged, so that the next `put` sends it again."""
        with suppress(FileNotFoundError):
            self._ask(lambda: self._fs.rm_file(self._at(_blob(file.sha256))))

    def put_file(self, path: Path, name: str) -> None:
        """Store a file under a name; it appears there as a whole."""
        if not self.is_folder:
            self._store(lambda: self._fs.put_file(str(path), self._at(name)))
            return

        def copy() -> None:
            target = Path(self._at(name))
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
            try:
                shutil.copyfile(path, temporary)
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)

        self._store(copy)

    def get_file(self, name: str, to: Path) -> None:
        """Download what lies under a name.

        Raises:
            FileNotFoundError: nothing does.
        """
        self._ask(lambda: self._fs.get_file(self._at(name), str(to)))

    def write(self, name: str, content: bytes) -> None:
        """Store a small content under a name; it appears there as a whole."""
        if not self.is_folder:
            self._store(lambda: self._fs.pipe_file(self._at(name), content))
            return

        def write() -> None:
            target = Path(self._at(name))
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
            temporary.write_bytes(content)
            temporary.replace(target)

        self._store(write)

    def read(self, name: str) -> bytes | None:
        """Return the content under a name, None where nothing lies."""
        try:
            return bytes(self._ask(lambda: self._fs.cat_file(self._at(name))))
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> list[str]:
        """Return the names of all that lies below `folder`, sorted."""
        found: list[str] = self._ask(lambda: self._fs.find(self._at(folder)), [])
        before = len(self._root) + 1
        return sorted(n for n in (path[before:] for path in found) if not _temporary(n))

    def remove(self, folder: str) -> None:
        """Remove all that lies below `folder`."""
        with suppress(FileNotFoundError):
            self._ask(lambda: self._fs.rm(self._at(folder), recursive=True))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _size(self, name: str) -> int:
        try:
            return int(self._ask(lambda: self._fs.info(self._at(name)))["size"])
        except FileNotFoundError:
            return -1

    def _store(self, act: Callable[[], object]) -> None:
        """Write something.

        Raises:
            PipelineError: there is no such bucket, or see `Remote.ask`.
        """
        try:
            self._ask(act)
        except FileNotFoundError as error:
            raise PipelineError(
                f"storage {self.uri} cannot be written to: {reason(error)}; make it, or"
                " see that resources.storage names it"
            ) from error


def _blob(digest: str) -> str:
    return f"blobs/{digest[:2]}/{digest}"


def _temporary(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")


def _together(function: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
    """Call a function for all items, several at once; raise the first error."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(function, items))
