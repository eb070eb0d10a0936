"""A thread that brings a run's records to the store while the training goes on."""

import sys
import threading
import time

from tqdm import tqdm

from pipeline.params import Tracking
from pipeline.runtime.tracking.journal import Journal
from pipeline.runtime.tracking.replay import Replay, StoreAwayError
from pipeline.runtime.tracking.store import load_mlflow, shown

_FIRST_PAUSE_S = 1.0  # after a failure, doubled by each further one up to the longest
_LONGEST_PAUSE_S = 15.0
_LAST_PAUSE_S = 0.5  # while the training waits for its end
_PATIENCE_S = 10.0  # at the end, with a store that was away and answers nothing
_FIRST_PATIENCE_S = 60.0  # with one that has not failed: MLflow's import, a fresh database
_LIMIT = 3  # patiences, with one that answers slowly


class Uploader:
    """Delivers one journal, and before it what earlier processes left.

    The thread is a daemon and holds the journal until it ends. What it has not done when the
    process ends, a later process does. `was_away`: the store did not take records, for `reason`.
    """

    def __init__(self, tracking: Tracking, journal: Journal) -> None:
        """Start with a journal, which is locked by this process."""
        self.was_away, self.reason = False, "there was no time"
        self._replay, self._journal = Replay(tracking, self._say), journal
        self._where, self._journals = shown(self._replay.uri), journal.path.parent
        self._news, self._ending = threading.Event(), threading.Event()
        self._done, self._closed = threading.Event(), threading.Event()
        self._tidied, self._failures = False, 0
        # Importing MLflow takes 2 s of CPU. They pass while the workers start, each step of which
        # waits for the one before and leaves cores idle.
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that there is something to deliver."""
        self._news.set()

    def finish(self) -> bool:
        """Wait until all is delivered, or patience ends; return whether it is."""
        self._ending.set()
        self._news.set()
        start_s = time.monotonic()
        while not self._done.wait(0.05):
            now_s = time.monotonic()
            patience_s = _PATIENCE_S if self.was_away else _FIRST_PATIENCE_S
            silent_s = now_s - max(self._replay.answered_s, start_s)
            if silent_s > patience_s or now_s - start_s > _LIMIT * patience_s:
                return False
        return True

    def close(self) -> None:
        """Stop, or let a thread that waits for an answer stop when it has it."""
        for event in (self._closed, self._ending, self._news):
            event.set()
        self._thread.join(0.5)

    def _work(self) -> None:
        while not self._closed.is_set():
            self._news.clear()
            ending = self._ending.is_set()
            try:
                self._deliver()
            except Exception as error:  # it must not end the training, nor the records' chances
                self._failed(error)
                pause_s = min(_FIRST_PAUSE_S * 2 ** min(self._failures - 1, 9), _LONGEST_PAUSE_S)
                (self._closed if ending else self._ending).wait(
                    _LAST_PAUSE_S if ending else pause_s
                )
                continue
            self._failures = 0
            if ending:
                self._done.set()
            elif self.was_away:
                self.was_away = False
                self._say(f"the MLflow store at {self._where} answers again", "tracking")
            self._news.wait()
        if self._done.is_set() and self._journal.status:
            self._journal.retire()
        else:
            self._journal.release()

    def _deliver(self) -> None:
        load_mlflow()
        if not self._tidied:
            try:
                for line in self._replay.settle_left(self._journals):
                    self._say(line, "tracking")
            except StoreAwayError as error:
                if not error.answers:
                    raise
            for run_id in self._replay.end_stale_runs(self._journals, self._journal.id):
                self._say(f"run {run_id} of a process that is gone ends as KILLED", "tracking")
            self._tidied = True
        self._replay.deliver(self._journal)

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        known = isinstance(error, StoreAwayError)
        self.reason = str(error) if known else repr(error)
        # A store that answers may have a passing reason, such as two processes at the same row.
        passing = isinstance(error, StoreAwayError) and error.answers and self._failures == 1
        if not self.was_away and not passing:
            self.was_away = True
            self._say(
                f"training goes on; records wait in {self._journals} until the MLflow store at"
                f" {self._where} takes them: {self.reason}"
            )

    def _say(self, words: str, kind: str = "warning") -> None:
        if not self._closed.is_set():
            say(words, kind)


def say(words: str, kind: str = "warning") -> None:
    """Show a message above a progress bar."""
    tqdm.write(f"{kind}: {' '.join(words.split())}", file=sys.stderr)
