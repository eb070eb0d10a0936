"""What C libraries write to stderr while they decode: read, and kept off the console.

libjpeg, as OpenCV uses it, goes on with damaged data and only writes so, without a file name.
"""

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class _Redirection:
    """File descriptor 2 of this process, led to a file while any thread decodes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._threads = 0
        self._alone = False
        self._file = -1
        self._console = -1

    @contextmanager
    def active(self, *, alone: bool) -> Iterator[None]:
        """Redirect during the block, which other threads share unless it is to be `alone`."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._alone or (alone and self._threads)))
            if not self._threads:
                self._begin()
            self._threads += 1
            self._alone = alone
        try:
            yield
        finally:
            with self._changed:
                self._threads -= 1
                self._alone = False
                if not self._threads:
                    self._end()
                self._changed.notify_all()

    def length(self) -> int:
        """Count the bytes that were written so far."""
        return os.fstat(self._file).st_size

    def text_from(self, start: int) -> str:
        """Return what was written after the first `start` bytes."""
        return os.pread(self._file, self.length() - start, start).decode(errors="replace")

    def _begin(self) -> None:
        if self._file < 0:
            self._file = _nameless_file()
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        try:
            self._console = os.dup(2)
        except OSError:  # a service may have closed it
            self._console = -1
        os.dup2(self._file, 2)

    def _end(self) -> None:
        if self._console < 0:
            os.close(2)
            return
        os.dup2(self._console, 2)
        os.close(self._console)


def _nameless_file() -> int:
    with tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())


_REDIRECTION = _Redirection()


def heard(function: Callable[[], T]) -> tuple[T, str]:
    """Call a function; return its result and what was written to stderr meanwhile.

    Threads may do this at the same time. When something was written, the function is called again
    while no other thread decodes, so that the text is its own.
    """
    with _REDIRECTION.active(alone=False):
        start = _REDIRECTION.length()
        result = function()
        if _REDIRECTION.length() == start:
            return result, ""
    with _REDIRECTION.active(alone=True):
        start = _REDIRECTION.length()
        return function(), _REDIRECTION.text_from(start)
