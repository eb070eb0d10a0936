"""The storage that all processes of a cluster reach: a shared folder, or a bucket by fsspec.

    blobs/ab/abcdef...      files, named by the sha256 of their content
    trees/<digest>.json     which files make up some paths of a workspace
    jobs/<identity>/        what a job is, and its result
    runs/<name>/            the checkpoints of a training

Credentials and endpoints come from the environment, as the file system's library reads them.
"""

import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import PipelineError
from pipeline.progress import progress_bar
from pipeline.runtime.storage.trees import File

T = TypeVar("T")


class StorageAwayError(PipelineError):
    """The storage does not answer."""


PATIENCE_S = 180.0  # with a storage that does not answer
_LONGEST_PAUSE_S = 5.0
_SILENCE_S = 2.5  # after which a line says what is waited for
_AT_ONCE = 16  # transfers; more of them make small files faster, and large ones no slower
# Of botocore, which s3fs uses: what another try would meet again.
_MISTAKES = {"NoCredentialsError", "PartialCredentialsError", "ParamValidationError"}
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
        scheme, _, place = uri.rpartition("://")
        if not place.strip("/") or (scheme == "s3" and place.startswith("/")):
            raise PipelineError(
                f"resources.storage is {uri or 'empty'}, expected a bucket such as"
                " s3://BUCKET/convoy, or a folder that all nodes share"
            )
        self.uri, self._patience_s = uri.removeprefix("file://").rstrip("/"), patience_s
        self.is_folder = "://" not in self.uri
        self._fs, self._root = _open(self.uri)

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
            PipelineError: there is no such bucket, or see `_ask`.
        """
        try:
            self._ask(act)
        except FileNotFoundError as error:
            raise PipelineError(
                f"storage {self.uri} cannot be written to: {_reason(error)}; make the bucket, or"
                " see that resources.storage names it"
            ) from error

    def _ask(self, question: Callable[[], T], nothing: T | None = None) -> T:
        """Ask until there is an answer, or patience ends.

        Raises:
            FileNotFoundError: there is no such thing, and `nothing` is None.
            PipelineError: it may not be done, or the storage stays away.
        """
        begin_s, pause_s, said = time.monotonic(), 0.1, False
        while True:
            try:
                return question()
            except FileNotFoundError:
                if nothing is not None:
                    return nothing
                raise
            except Exception as error:
                if isinstance(error, PermissionError) or type(error).__name__ in _MISTAKES:
                    raise PipelineError(
                        f"storage {self.uri} refuses: {_reason(error)}; check its address, the"
                        " rights on it, and the credentials in the environment"
                    ) from error
                waited_s = time.monotonic() - begin_s
                if waited_s > self._patience_s:
                    raise StorageAwayError(
                        f"storage {self.uri} does not answer"
                        f"{f' for {waited_s:.0f} s' if waited_s > 1 else ''}: {_reason(error)}; see"
                        " that it runs, and that resources.storage and the environment name it"
                    ) from error
                if waited_s > _SILENCE_S and not said:
                    said = True
                    print(
                        f"storage {self.uri} does not answer ({_reason(error)}); tries again for"
                        f" {self._patience_s:.0f} s",
                        file=sys.stderr,
                        flush=True,
                    )
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


@cache  # a connection takes a second to make
def _open(uri: str) -> tuple[Any, str]:
    """Return fsspec's file system, and where in it `uri` leads."""
    import fsspec

    if "://" not in uri:
        return fsspec.filesystem("file", use_listings_cache=False), os.path.abspath(uri)  # noqa: PTH100
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if uri.startswith("s3://"):
        # Seconds, and tries of a request; a storage that is away is asked again by `Storage`.
        options["config_kwargs"] = {
            "connect_timeout": 5,
            "read_timeout": 20,
            "retries": {"max_attempts": 1},
        }
        options["max_concurrency"] = _AT_ONCE
    try:
        fs, root = fsspec.core.url_to_fs(uri, **options)
    except (ImportError, ValueError) as error:
        scheme = uri.partition("://")[0]
        extra = "; pip install 'convoy[s3]'" if scheme == "s3" else ""
        raise PipelineError(
            f"resources.storage {uri} cannot be opened: {error}{extra}; or name a folder that all"
            " nodes share"
        ) from error
    if uri.startswith("s3://"):
        fs.retries = 1
    return fs, str(root).rstrip("/")


def _blob(digest: str) -> str:
    return f"blobs/{digest[:2]}/{digest}"


def _temporary(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")


def _together(function: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
    """Call a function for all items, several at once; raise the first error."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(function, items))


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
