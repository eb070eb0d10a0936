"""Threads that live as long as a block, or that nobody waits for."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def in_background(work: Callable[[threading.Event], object]) -> Iterator[None]:
    """Run `work` in a thread; wait for its end when the block ends.

    Args:
        work: gets an event that is set when the block ends, and returns soon after that.
    """
    ended = threading.Event()
    thread = threading.Thread(target=work, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def in_daemon(function: Callable[[], T]) -> "Future[T]":
    """Run a function in a thread for which the interpreter does not wait, should it hang."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
