"""A thread that brings a run's records to the store while the training goes on."""

import sys
import threading
import time

from tqdm import tqdm

from pipeline.params import Tracking
from pipeline.runtime.tracking.journal import Position, Spool
from pipeline.runtime.tracking.replay import Count, Delivery, Settled, StoreAwayError
from pipeline.runtime.tracking.store import is_database, load_mlflow, shown

_FIRST_PAUSE_S = 1.0  # after a failure, doubled by each further one up to the longest
_LONGEST_PAUSE_S = 15.0
_LAST_PAUSE_S = 0.5  # while the training waits for its end
_PATIENCE_S = 10.0  # of the end, with a store that answers nothing
_DATABASE_PATIENCE_S = 60.0  # with a database that has not failed: to make a fresh one ready
_IMPORT_PATIENCE_S = 60.0  # with the import of MLflow, on a machine that has much else to do
_COUNT_PATIENCE_S = 5.0  # when all is delivered, and only remains to be counted
_LIMIT = 3  # patiences, with one that answers slowly


class _ClosedError(Exception):
    """Nobody waits for the thread any more."""


class Courier:
    """Delivers one spool, and before it what earlier processes left.

    It is a daemon: whatever it does when the process ends is taken up by a later one.
    """

    def __init__(self, tracking: Tracking, spool: Spool) -> None:
        """Set out with a spool, which is locked here."""
        self.count: Count | None = None
        self.was_away = False
        self.reason = "there was no time"
        self._delivery, self._spool = Delivery(tracking, self._say), spool
        self._position = spool.position()
        self._news = threading.Event()
        self._ending = threading.Event()
        self._loaded = threading.Event()
        self._delivered = threading.Event()
        self._counted = threading.Event()
        self._closed = threading.Event()
        self._tidy = self._abandoned = False
        self._failures = 0  # in a row
        self._answered_s = time.monotonic()
        # Importing MLflow takes 2 s of CPU. They pass while the workers start, each step of which
        # waits for the one before and leaves cores idle.
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    @property
    def position(self) -> Position:
        """How far the store has the spool."""
        return self._position

    def wake(self) -> None:
        """Say that there is something to deliver."""
        self._news.set()

    def finish(self) -> bool:
        """Wait until all is delivered and counted, or patience ends.

        Returns:
            Whether all is delivered.
        """
        self._ending.set()
        self._news.set()
        self._loaded.wait(_IMPORT_PATIENCE_S)
        start_s = time.monotonic()
        while not self._delivered.wait(0.05):
            now_s = time.monotonic()
            working = is_database(self._delivery.uri) and not self.was_away
            patience_s = _DATABASE_PATIENCE_S if working else _PATIENCE_S
            silent_s = now_s - max(self._answered_s, start_s)
            if silent_s > patience_s or now_s - start_s > _LIMIT * patience_s:
                return False
        self._counted.wait(_COUNT_PATIENCE_S)
        return True

    def close(self) -> bool:
        """Stop, and return whether the thread has.

        One that waits for the store's answer stops then, and gives the spool back.
        """
        self._closed.set()
        self._ending.set()
        self._news.set()
        self._thread.join(0.5)
        self._abandoned = self._thread.is_alive()
        return not self._abandoned

    def _work(self) -> None:
        try:
            self._go_on()
        except _ClosedError:
            pass
        finally:
            if self._abandoned:
                self._spool.release()

    def _go_on(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._closed.is_set():
            self._news.clear()
            try:
                self._deliver()
            except _ClosedError:
                raise
            except Exception as error:
                # Whatever it is, it must not end the training, nor the records' chances.
                self._failures += 1
                self._store_is_away(error)
                self._pause(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                pause_s, self._failures = _FIRST_PAUSE_S, 0
                if self._counted.is_set():
                    return
                self._news.wait()

    def _deliver(self) -> None:
        ending = self._ending.is_set()
        load_mlflow()
        self._loaded.set()
        self._tidy_up()
        self._delivery.deliver(self._spool, self._position, self._progress)
        if self.was_away and not ending:
            self.was_away = False
            self._say(f"the MLflow store at {self._where} answers again", "tracking")
        if ending:
            self._delivered.set()
            self.count = self._delivery.settle(self._spool, self._position, self._progress)
            self._counted.set()

    def _progress(self, position: Position) -> None:
        if self._closed.is_set():
            raise _ClosedError
        self._answered_s = time.monotonic()
        self._position = position
        self._spool.remember(position)

    def _tidy_up(self) -> None:
        """Deliver what earlier processes left, and end runs that they could not end."""
        if self._tidy:
            return
        spools = self._spool.path.parent
        try:
            for settled in self._delivery.settle_left(spools):
                self._answered_s = time.monotonic()
                self._say(told(settled), "tracking")
        except StoreAwayError as error:
            if not error.answers:
                raise
        for run_id in self._delivery.mend(spools, self._spool.id):
            self._say(f"run {run_id} of a process that is gone ends as KILLED", "tracking")
        self._tidy = True

    def _store_is_away(self, error: Exception) -> None:
        self.reason = str(error) if isinstance(error, StoreAwayError) else repr(error)
        # One that answers has its reasons, such as two processes with the same new data set.
        passing = isinstance(error, StoreAwayError) and error.answers and self._failures == 1
        if not self.was_away and not passing:
            self.was_away = True
            self._say(
                f"training goes on; records wait in {self._spool.path.parent} until the MLflow"
                f" store at {self._where} takes them: {self.reason}"
            )

    def _pause(self, pause_s: float) -> None:
        if self._ending.is_set():
            self._closed.wait(_LAST_PAUSE_S)
        else:
            self._ending.wait(pause_s)

    @property
    def _where(self) -> str:
        return shown(self._delivery.uri)

    def _say(self, words: str, kind: str = "warning") -> None:
        if not self._closed.is_set():
            say(words, kind)


def say(words: str, kind: str = "warning") -> None:
    """Tell the user something, above a progress bar."""
    tqdm.write(f"{kind}: {' '.join(words.split())}", file=sys.stderr)


def told(settled: Settled) -> str:
    """Say what became of a spool."""
    return (
        f"{settled.delivered} records of {settled.name} delivered to run {settled.run_id}, which"
        f" has {settled.count} values"
    )
