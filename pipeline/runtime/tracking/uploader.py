"""A thread that brings a run's records to the store while the training goes on."""

import sys
import threading
import time
from contextlib import suppress

from tqdm import tqdm

from pipeline.params import Tracking
from pipeline.runtime.tracking.journal import Journal
from pipeline.runtime.tracking.replay import Replay, StoreAwayError, StoreBusyError
from pipeline.runtime.tracking.store import load_mlflow, shown

_PAUSE_S = 1.0  # between deliveries; doubled by each failure up to the longest
_LONGEST_PAUSE_S = 15.0
_LAST_PAUSE_S = 0.5  # while the training waits for its end
_PATIENCE_S = 10.0  # at the end, with a store that was away and answers nothing
_LIMIT_S = 60.0  # with any other: MLflow's import, a fresh database and slow answers take time


class Uploader:
    """Delivers one journal, and then what earlier processes left.

    The thread is a daemon and holds the journal until `close`. What it has not done when the
    process ends, a later process does. `reason`: why the store did not take records.
    """

    def __init__(self, tracking: Tracking, journal: Journal) -> None:
        """Start with a journal that has begun."""
        self.reason, self._failures = "there was no time", 0
        self._replay, self._journal = Replay(tracking, self._say), journal
        self._where = shown(self._replay.uri)
        self._ending, self._closed = threading.Event(), False
        # Importing MLflow takes 2 s of CPU. They pass while the workers start, each step of which
        # waits for the one before and leaves cores idle.
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()

    def finish(self) -> bool:
        """Wait until all is delivered, or patience ends; return whether it is."""
        self._ending.set()
        start_s = now_s = time.monotonic()
        while self._thread.is_alive() and now_s - start_s < _LIMIT_S:
            self._thread.join(0.05)
            now_s = time.monotonic()
            silent_s = now_s - max(self._replay.answered_s, start_s)
            if self._failures > 1 and silent_s > _PATIENCE_S:
                break
        return not self._journal.waiting

    def close(self) -> None:
        """Stop, or let a thread that waits for an answer stop when it has it."""
        self._closed = True
        self._ending.set()
        self._thread.join(2 * _LAST_PAUSE_S)
        if self._journal.ended and not self._journal.waiting:
            self._journal.retire()
        elif not self._thread.is_alive():
            self._journal.release()

    def _work(self) -> None:
        tidied = False
        while not self._closed:
            ending = self._ending.is_set()
            try:
                load_mlflow()
                self._replay.deliver(self._journal)
                if not tidied:
                    with suppress(StoreBusyError):
                        for line in self._replay.settle_left(self._journal.path.parent):
                            self._say(line, "tracking")
                    tidied = True
            except Exception as error:  # it must not end the training, nor the records' chances
                self._failures += 1
                self.reason = str(error) if isinstance(error, StoreAwayError) else repr(error)
                if self._failures == 2:  # one may have a passing reason: two writers of a row, say
                    waiting = f"training goes on; records wait in {self._journal.path.parent} until"
                    self._say(
                        f"{waiting} the MLflow store at {self._where} takes them: {self.reason}"
                    )
            else:
                if self._failures > 1:
                    self._say(f"the MLflow store at {self._where} answers again", "tracking")
                self._failures = 0
                if ending:
                    return
            if ending:
                time.sleep(_LAST_PAUSE_S)
            self._ending.wait(min(_PAUSE_S * 2 ** min(self._failures, 9), _LONGEST_PAUSE_S))
        self._journal.release()

    def _say(self, words: str, kind: str = "warning") -> None:
        if not self._closed:
            say(words, kind)


def say(words: str, kind: str = "warning") -> None:
    """Show a message above a progress bar."""
    tqdm.write(f"{kind}: {' '.join(words.split())}", file=sys.stderr)
