"""File systems that fsspec opens, such as buckets; each question goes on until there is an answer.

Credentials and endpoints come from the environment, as the file system's library reads them.
"""

import errno
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

from pipeline.errors import PipelineError

T = TypeVar("T")

PATIENCE_S = 180.0  # with one that does not answer
AT_ONCE = 16  # transfers; more of them make small files faster, and large ones no slower
_LONGEST_PAUSE_S = 5.0
# Of botocore, which s3fs uses: what another try would meet again.
_MISTAKES = {"NoCredentialsError", "PartialCredentialsError", "ParamValidationError"}
_LASTING = {
    *(errno.EINVAL, errno.ENOTDIR, errno.EISDIR, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP),
}
_most_patience_s = float("inf")
_SILENCE_S = 2.5  # after which a line says what is waited for


class AwayError(PipelineError):
    """The file system does not answer."""


def is_uri(path: str) -> bool:
    """Whether a path that a user wrote is none of this machine's, but fsspec's."""
    return "://" in path


class Remote:
    """A place that fsspec opens, or a folder.

    Attributes:
        fs: fsspec's file system.
        root: where in it the place is.
        patience_s: how long a question is asked again.
    """

    def __init__(self, uri: str, kind: str, param: str, patience_s: float = PATIENCE_S) -> None:
        """Take where it is; nothing is connected yet.

        Args:
            uri: a path, or what fsspec opens, such as s3://bucket/prefix.
            kind: what messages call it.
            param: the key of params.yaml that holds `uri`.
            patience_s: how long a question is asked again.

        Raises:
            PipelineError: fsspec knows no such file system, or lacks its library.
        """
        self._name, self._param, self.patience_s = f"{kind} {uri}", param, patience_s
        self._said_s, self._saying = float("-inf"), threading.Lock()
        scheme, _, place = uri.rpartition("://")
        parts = place.rstrip("/").split("/")
        if not place.strip("/") or (scheme and {"", ".", ".."} & set(parts)):
            raise PipelineError(
                f"{param} is {uri or 'empty'}, expected a bucket such as s3://BUCKET/FOLDER,"
                " without empty parts, . or .., or a folder that all nodes share"
            )
        try:
            self.fs, self.root = _open(uri)
        except (ImportError, ValueError) as error:
            extra = "; pip install 'convoy[s3]'" if scheme == "s3" else ""
            raise PipelineError(
                f"{param} {uri} cannot be opened: {error}{extra}; or name a folder that all nodes"
                " share"
            ) from error

    def ask(self, question: Callable[[], T], nothing: T | None = None) -> T:
        """Ask until there is an answer, or patience ends.

        Args:
            question: a call of `fs`.
            nothing: the answer where there is no such thing.

        Raises:
            FileNotFoundError: there is no such thing, and `nothing` is None.
            AwayError: it stays away.
            PipelineError: it may not be done.
        """
        begin_s, pause_s = time.monotonic(), 0.1
        while True:
            try:
                return question()
            except FileNotFoundError:
                if nothing is not None:
                    return nothing
                raise
            except Exception as error:
                if _is_mistake(error):
                    raise PipelineError(
                        f"{self._name} refuses: {reason(error)}; check its address, the rights on"
                        " it, and the credentials in the environment"
                    ) from error
                waited_s = time.monotonic() - begin_s
                patience_s = min(self.patience_s, _most_patience_s)
                if waited_s > patience_s:
                    raise AwayError(
                        f"{self._name} does not answer"
                        f"{f' for {waited_s:.0f} s' if waited_s > 1 else ''}: {reason(error)}; see"
                        f" that it runs, and that {self._param} and the environment name it"
                    ) from error
                if waited_s > _SILENCE_S:
                    self._say_away(
                        f"{self._name} does not answer ({reason(error)}); tries again for"
                        f" {patience_s:.0f} s"
                    )
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _say_away(self, line: str) -> None:
        """Print a line, one for all threads that wait."""
        with self._saying:
            now_s = time.monotonic()
            if now_s > self._said_s + self.patience_s:
                self._said_s = now_s
                print(line, file=sys.stderr, flush=True)


@contextmanager
def in_haste(patience_s: float) -> Iterator[None]:
    """Let no question of the block be asked again for longer."""
    global _most_patience_s  # noqa: PLW0603 - of all threads that work for the block
    before, _most_patience_s = _most_patience_s, patience_s
    try:
        yield
    finally:
        _most_patience_s = before


def _is_mistake(error: Exception) -> bool:
    """Whether another try would meet the same; s3fs makes EINVAL of the status 400."""
    refused = isinstance(error, OSError) and error.errno in _LASTING
    return refused or isinstance(error, PermissionError) or type(error).__name__ in _MISTAKES


def reason(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


@cache  # a connection takes a second to make
def _open(uri: str) -> tuple[Any, str]:
    """Return fsspec's file system, and where in it `uri` leads."""
    import fsspec

    if not is_uri(uri):
        return fsspec.filesystem("file", use_listings_cache=False), os.path.abspath(uri)  # noqa: PTH100
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if uri.startswith("s3://"):
        # Seconds, and tries of a request; one that is away is asked again by `Remote`.
        options["config_kwargs"] = {
            "connect_timeout": 5,
            "read_timeout": 20,
            "retries": {"max_attempts": 1},
        }
        options["max_concurrency"] = AT_ONCE
    fs, root = fsspec.core.url_to_fs(uri, **options)
    if uri.startswith("s3://"):
        fs.retries = 1
    return fs, str(root).rstrip("/")
