"""Work on many items in all cores, in order, with a progress bar and flat memory."""

import multiprocessing
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
from tqdm import tqdm

T = TypeVar("T")
R = TypeVar("R")

# Of work in one process; other processes take some tenths of a second to start.
_WORTH_PROCESSES_S = 1.0


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
) -> Iterator[R]:
    """Yield `function(piece)` for consecutive pieces of `items`, in order.

    At most two pieces per worker are under way or waiting, whatever the number of items.

    Args:
        function: picklable; gets `chunk` items (the last piece may be shorter).
        items: all items, picklable.
        chunk: items per piece.
        label: what the progress bar says.
        workers: processes; 1 stays in this one; None uses all cores when the first piece shows
            that they are worth starting.
    """
    pieces = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    # A bar that ends within a second is never drawn; in a log, one line each 30 s is enough.
    interval_s = 0.1 if sys.stderr.isatty() else 30.0
    with tqdm(
        total=len(items),
        desc=label,
        unit="img",
        delay=1.0,
        mininterval=interval_s,
        file=sys.stderr,
    ) as bar:
        if workers is None:
            results = _timed_first(function, pieces)
        else:
            results = _results(function, pieces, workers)
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
    function: Callable[[Sequence[T]], R], pieces: Sequence[Sequence[T]], workers: int
) -> Iterator[R]:
    """Yield `function(piece)` for each piece, in order."""
    if workers == 1 or not pieces:
        yield from map(function, pieces)
        return
    # Not plain fork: pyarrow and OpenCV hold threads, whose locks a forked child may find
    # taken. A server without threads, that has imported what is needed once, may fork.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_module(function)])
    with (
        tempfile.TemporaryDirectory(prefix="convoy-") as scratch,
        ProcessPoolExecutor(min(workers, len(pieces)), mp_context=context) as pool,
    ):
        waiting: deque[Future[R | _Spilled]] = deque()
        try:
            for piece in pieces:
                waiting.append(pool.submit(_call, function, piece, scratch))
                if len(waiting) > 2 * workers:
                    yield _take(waiting.popleft().result())
            while waiting:
                yield _take(waiting.popleft().result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@dataclass(frozen=True)
class _Spilled:
    """An array that a worker left in a file."""

    path: str


def _call(function: Callable[[Sequence[T]], R], piece: Sequence[T], scratch: str) -> R | _Spilled:
    """Call `function` in a worker, and leave an array in a file of the page cache.

    Through a pipe, which holds 64 KiB, the two sides would wait for each other at every fill:
    with all cores busy, that halves the rate.
    """
    result = function(piece)
    if not isinstance(result, np.ndarray):
        return result
    descriptor, path = tempfile.mkstemp(suffix=".npy", dir=scratch)
    with open(descriptor, "wb") as file:  # noqa: PTH123 - it is open already
        np.save(file, result, allow_pickle=False)
    return _Spilled(path)


def _take(result: R | _Spilled) -> R:
    """Fetch what a worker returned."""
    if not isinstance(result, _Spilled):
        return result
    path = Path(result.path)
    array = np.load(path, allow_pickle=False)
    path.unlink()
    return cast(R, array)


def _module(function: Callable[..., object]) -> str:
    """Name the module that a process needs in order to call `function`."""
    inner = function.func if isinstance(function, partial) else function
    return str(inner.__module__)
