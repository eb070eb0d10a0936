"""Work on many items in all cores, in order, with a progress bar and flat memory."""

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Protocol, TypeVar

from pipeline.progress import progress_bar

T = TypeVar("T")
R = TypeVar("R")

# Of work in one process; other processes take some tenths of a second to start.
_WORTH_PROCESSES_S = 1.0


class Spread(Protocol):
    """Calls functions on other machines."""

    def __call__(
        self, function: Callable[[Sequence[T]], R], pieces: Sequence[Sequence[T]]
    ) -> Iterator[R]:
        """Yield `function(piece)` for each piece, in order, with few of them under way."""


# Where work goes that names no number of workers; None: to this machine.
_elsewhere: Spread | None = None


@contextmanager
def spread_by(spread: Spread) -> Iterator[None]:
    """Have work of the block done by `spread`."""
    global _elsewhere  # noqa: PLW0603 - of the whole process, as its cores are
    before, _elsewhere = _elsewhere, spread
    try:
        yield
    finally:
        _elsewhere = before


def is_spread() -> bool:
    """Whether work goes to other machines."""
    return _elsewhere is not None


def usable_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_chunks(
    function: Callable[[Sequence[T]], R],
    items: Sequence[T],
    *,
    chunk: int,
    label: str,
    workers: int | None = None,
    threads: bool = False,
) -> Iterator[R]:
    """Yield `function(piece)` for consecutive pieces of `items`, in order.

    At most two pieces per worker are under way or waiting, whatever the number of items.

    Args:
        function: picklable; gets `chunk` items (the last piece may be shorter).
        items: all items, picklable.
        chunk: items per piece.
        label: what the progress bar says.
        workers: processes; 1 stays in this one; None uses all cores, where the first piece
            shows that other processes are worth starting.
        threads: take threads for workers. Right for work that releases the interpreter, such as
            decoding and resizing: it starts at once, and results need not travel.
    """
    pieces = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    with progress_bar(len(items), label) as bar:
        if workers is None and _elsewhere:
            results = _elsewhere(function, pieces)
        elif workers is None and not threads:
            results = _timed_first(function, pieces)
        else:
            results = _results(function, pieces, workers or usable_cores(), threads=threads)
        for piece, result in zip(pieces, results, strict=True):
            yield result
            bar.update(len(piece))


def _timed_first(
    function: Callable[[Sequence[T]], R], pieces: Sequence[Sequence[T]]
) -> Iterator[R]:
    """Do the first piece here, and the rest in all cores if it takes long enough."""
    if not pieces:
        return
    start = time.perf_counter()
    first = function(pieces[0])
    rest_s = (time.perf_counter() - start) * (len(pieces) - 1)
    yield first
    yield from _results(function, pieces[1:], usable_cores() if rest_s > _WORTH_PROCESSES_S else 1)


def _results(
    function: Callable[[Sequence[T]], R],
    pieces: Sequence[Sequence[T]],
    workers: int,
    *,
    threads: bool = False,
) -> Iterator[R]:
    """Yield `function(piece)` for each piece, in order."""
    if workers == 1 or not pieces:
        yield from map(function, pieces)
        return
    start = _start_threads if threads else _start_processes
    with start(function, min(workers, len(pieces))) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for piece in pieces:
                waiting.append(pool.submit(function, piece))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start_threads(_: Callable[..., object], workers: int) -> Executor:
    return ThreadPoolExecutor(workers)


def _start_processes(function: Callable[..., object], workers: int) -> Executor:
    # Not plain fork: pyarrow and OpenCV hold threads, whose locks a forked child may find
    # taken. A server without threads, that has imported what is needed once, may fork.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_module(function)])
    return ProcessPoolExecutor(workers, mp_context=context)


def _module(function: Callable[..., object]) -> str:
    """Name the module that a process needs in order to call `function`."""
    inner = function.func if isinstance(function, partial) else function
    return str(inner.__module__)
