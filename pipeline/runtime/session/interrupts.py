"""What Ctrl-C and SIGTERM do: at once while nothing is to lose, else a checkpoint comes first."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from pipeline.threads import in_daemon

T = TypeVar("T")

# Clusters and containers give a process some ten seconds between SIGTERM and SIGKILL.
_PATIENCE_S = 8.0
_POLL_S = 0.1
_RETRY_S = 0.05
# Files of code in whose midst nothing may be raised: while two threads import, Python drops the
# exception and keeps a lock, so that the signal is lost and the other thread waits for ever; and
# pydantic turns it into an error about the class that it builds.
_INDIVISIBLE = ("<frozen importlib._bootstrap>", "/_model_construction.py")


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C within the block: both raise KeyboardInterrupt."""
    with _handling(_interrupt):
        yield


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, but not in the midst of an import or the like: soon after it."""
    if _is_indivisible(frame):
        threading.Timer(_RETRY_S, os.kill, (os.getpid(), number)).start()
        return
    raise KeyboardInterrupt


def _is_indivisible(frame: FrameType | None) -> bool:
    while frame:
        if frame.f_code.co_filename.endswith(_INDIVISIBLE):
            return True
        frame = frame.f_back
    return False


@contextmanager
def _handling(handler: Callable[..., None], *signals: signal.Signals) -> Iterator[None]:
    """Handle signals (both, if none is named) by `handler`; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, handler)
        for number in signals or (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def run_here(
    function: Callable[[], T], *, ask: Callable[[], object], worth_asking: Callable[[], bool]
) -> T:
    """Run a function in this thread; the first signal asks it to end, as in `run_in_thread`.

    Raises:
        KeyboardInterrupt: there was nothing to lose, the function took too long to end, or a
            second signal came.
    """
    asked = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked or not worth_asking():
            _interrupt(number, frame)
            return
        asked = True
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE_S)
        ask()

    with _handling(on_signal), _handling(_interrupt, signal.SIGALRM):
        try:
            return function()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)


def run_in_thread(
    function: Callable[[], T],
    *,
    ask: Callable[[], object],
    worth_asking: Callable[[], bool],
    check: Callable[[], object] = lambda: None,
) -> T:
    """Run a function in a thread, so that the main one is free to take signals.

    Args:
        function: what to run. After a call of `ask` it may run on, but not for long.
        ask: asks it to end in order.
        worth_asking: whether there is anything to lose yet, and anybody to ask.
        check: called all the while; an error of it ends the wait.

    Returns:
        What the function returns.

    Raises:
        KeyboardInterrupt: there was nothing to lose, the function took too long to end, or a
            second signal came. It may still be running then.
    """
    deadline_s = float("inf")

    def on_signal(*_: object) -> None:
        nonlocal deadline_s
        if deadline_s < float("inf") or not worth_asking():
            raise KeyboardInterrupt
        deadline_s = time.monotonic() + _PATIENCE_S
        ask()

    with _handling(on_signal):
        future = in_daemon(function)
        while not wait([future], _POLL_S).done:
            check()
            asked = deadline_s < float("inf")
            if asked and (time.monotonic() > deadline_s or not worth_asking()):
                raise KeyboardInterrupt
    return future.result()
