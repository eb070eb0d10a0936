"""A run's records on disk until the tracking store has them: one JSON object per line.

An entry says what is to be done at the store and when it happened, so doing it twice changes
nothing: a process that takes over a journal replays it from the start. Only the process that holds
the lock delivers. A training writes its journal in any case: it waits for no other process.
"""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from errno import ENOSPC
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from pipeline.files import atomic_path, repository

_NAME_FILE = "journal"  # in a training's folder: the id of its journal
_NO_START = {"store": "", "experiment": "", "folder": ""}

Entry = dict[str, Any]


def journal_folder(storage: str) -> Path:
    """Return the folder of all journals, beside that of the trainings (`resources.storage`).

    Journals of experiments that DVC runs in a temporary folder are kept in the repository.
    """
    return (repository() / storage).resolve().parent / "journal"


class Journal:
    """One run's file, `<folder of journals>/<id>.jsonl`.

    Attributes:
        id: by which the run is found at the store.
        copies: folder of the checkpoints that wait for their upload.
        entries: what the file holds, of which this process has delivered the first `delivered`.
        values: value and time (ms since 1970) of each metric, by name and step.
        whole: False once an entry was lost.
        settled: whether a process has delivered all entries and closed the run.
        run_id: of the run at the store, once this process has found it.
        stored: number of metric values that were counted at the store when the run had ended.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.id, self.copies = path, path.stem, path.with_suffix(".checkpoints")
        self.entries, self.delivered, self.whole, self.settled = list[Entry](), 0, True, False
        self.values = dict[tuple[str, int], tuple[float, int]]()
        self.run_id: str | None = None
        self.stored: int | None = None
        self._lock = FileLock(path.with_suffix(".lock"), thread_local=False)
        self._turn = threading.Lock()

    def acquire(self) -> bool:
        """Return whether this process holds the lock now."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        return True

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release(force=True)

    def read(self) -> None:
        """Take the entries from the file; it is not whole if a line is damaged or cut short."""
        self.entries, self.values = [], {}
        for line in self.path.read_bytes().split(b"\n") if self.path.exists() else []:
            try:
                if line:
                    self._add(dict(json.loads(line)))
            except (ValueError, TypeError, KeyError):
                self.whole = False

    def append(self, entry: Entry) -> None:
        """Add an entry in one write: killed at any moment, it is there whole or not at all.

        The newline comes first, so an entry that a full disk cuts short damages no other one. The
        next entry follows a damaged line, which says to other processes that something is lost.

        Raises:
            OSError: the entry is lost.
        """
        with self._turn, self.path.open("ab", buffering=0) as file:
            data = b"\n" if self.whole else b"\n?\n"
            data += json.dumps(entry).encode()
            self.whole, before = False, self.whole
            if file.write(data) < len(data):
                raise OSError(ENOSPC, os.strerror(ENOSPC))
            self.whole = before
            self._add(entry)

    @property
    def start(self) -> Entry:
        """The latest entry of a training's start, with store, experiment and folder."""
        return next((e for e in reversed(self.entries) if e["act"] == "start"), _NO_START)

    @property
    def ended(self) -> bool:
        """Whether nothing has followed the run's end."""
        return bool(self.entries) and self.entries[-1]["act"] == "end"

    @property
    def over(self) -> bool:
        """Whether the training's folder is gone, so that it cannot go on."""
        return not Path(self.start["folder"] or self.path).is_dir()

    @property
    def waiting(self) -> int:
        """The number of records that are still to be delivered: metric values and others."""
        left = self.entries[self.delivered :]
        return sum(len(entry["values"]) if entry["act"] == "metrics" else 1 for entry in left)

    @property
    def count(self) -> str:
        """How many of the metric values the store has."""
        return f"{self.stored} of {'' if self.whole else 'more than '}{len(self.values)}"

    @property
    def complete(self) -> bool:
        """Whether the store has all metric values that were counted, and no entry was lost."""
        return self.stored is None or (self.whole and self.stored >= len(self.values))

    def retire(self) -> None:
        """Mark a delivered journal, delete it if its training cannot go on, and release it."""
        over = self.over
        with suppress(OSError):  # without its mark it is delivered once more
            self.append({"act": "settled", "entries": len(self.entries)})
            self.read()
            if self.settled:
                shutil.rmtree(self.copies, ignore_errors=True)
            if self.settled and over:
                self.path.unlink()
                self.path.with_suffix(".lock").unlink()
        self.release()

    def _add(self, entry: Entry) -> None:
        if entry["act"] == "settled":  # unless its training has written meanwhile
            self.settled = entry["entries"] == len(self.entries)
            return
        self.settled = False
        if entry["act"] == "metrics":
            for name, value in entry["values"].items():
                self.values[name, entry["step"]] = value, entry["time_ms"]
        self.entries.append(entry)


def open_journal(journals: Path, training: Path) -> Journal:
    """Return the journal of a training's folder: that of an earlier call, or else a new one."""
    named = training / _NAME_FILE
    name = named.read_text().strip() if named.exists() else f"{training.name}-{uuid4().hex[:12]}"
    if training.exists() and not named.exists():
        # The name first: after a kill in between, the next call still finds its run by it.
        with atomic_path(named) as temporary:
            temporary.write_text(name)
    journal = Journal(journals / f"{name}.jsonl")
    journal.acquire()
    journal.read()
    return journal


def unsettled(journals: Path) -> Iterator[tuple[Journal, bool]]:
    """Yield the journals that are not delivered, and whether their processes are gone.

    A journal whose process is gone is locked while the caller has it. One that is delivered is
    deleted once its training cannot go on.
    """
    for path in sorted(journals.glob("*.jsonl")):
        journal = Journal(path)
        if not journal.acquire():
            yield journal, False
            continue
        try:
            journal.read()
            if not journal.settled and path.exists():
                yield journal, True
            elif journal.settled and journal.over:
                journal.retire()
        finally:
            journal.release()
