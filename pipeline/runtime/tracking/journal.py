"""A run's records on disk until the tracking store has them: one JSON object per line.

An entry says what is to be done at the store and when it happened, so doing it twice changes
nothing: a process that takes over a journal replays it from the start. Only the process that holds
the lock appends.
"""

import json
import os
import shutil
import threading
from collections.abc import Iterator
from errno import ENOSPC
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from pipeline.files import atomic_path, repository

_NAME_FILE = "journal"  # in a training's folder: the id of its journal
_PATIENCE_S = 30.0  # for another process that is delivering this journal

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
        run_id: of the run at the store, once this process has found it.
        stored: number of metric values that were counted at the store when the run had ended.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.id, self.copies = path, path.stem, path.with_suffix(".checkpoints")
        self.entries, self.delivered, self.whole = list[Entry](), 0, True
        self.values = dict[tuple[str, int], tuple[float, int]]()
        self.run_id: str | None = None
        self.stored: int | None = None
        self._lock = FileLock(path.with_suffix(".lock"), thread_local=False)
        self._turn = threading.Lock()

    def acquire(self, patience_s: float = 0.0) -> bool:
        """Take the lock and read the file; return whether this process holds the journal now."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=patience_s)
        except Timeout:
            return False
        self.entries, self.values = [], {}
        for line in self.path.read_bytes().split(b"\n") if self.path.exists() else []:
            try:
                self._add(dict(json.loads(line or b'{"act": ""}')))
            except (ValueError, TypeError, KeyError):  # cut short, or damaged by a power failure
                self.whole = False
        return True

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release(force=True)

    def append(self, entry: Entry) -> None:
        """Add an entry in one write: killed at any moment, it is there whole or not at all.

        The newline comes first, so an entry that a full disk cuts short damages no other one.

        Raises:
            OSError: the entry is lost.
        """
        data = f"\n{json.dumps(entry)}".encode()
        with self._turn, self.path.open("ab", buffering=0) as file:
            self.whole, before = False, self.whole
            if file.write(data) < len(data):
                raise OSError(ENOSPC, os.strerror(ENOSPC))
            self.whole = before
            self._add(entry)

    @property
    def start(self) -> Entry:
        """The latest entry of a training's start, with store, experiment and folder."""
        nothing = {"store": "", "experiment": "", "folder": ""}
        return next((e for e in reversed(self.entries) if e["act"] == "start"), nothing)

    @property
    def status(self) -> str | None:
        """How the run ended; None while it goes on."""
        acts = (entry for entry in reversed(self.entries) if entry["act"] in ("start", "end"))
        return next(acts, Entry()).get("status")

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
        """Whether the store has all metric values and no entry was lost."""
        return self.whole and (self.stored or 0) >= len(self.values)

    def retire(self) -> None:
        """Delete a delivered journal, or move it to its training if that may go on; release it."""
        folder = self.start["folder"]
        if folder and Path(folder).is_dir():
            shutil.move(self.path, Path(folder) / self.path.name)
        self.path.unlink(missing_ok=True)
        shutil.rmtree(self.copies, ignore_errors=True)
        self.path.with_suffix(".lock").unlink(missing_ok=True)
        self.release()

    def _add(self, entry: Entry) -> None:
        self.whole = self.whole and entry.get("whole", True)
        if entry["act"] == "metrics":
            for name, value in entry["values"].items():
                self.values[name, entry["step"]] = value, entry["time_ms"]
        if entry["act"]:
            self.entries.append(entry)


def open_journal(journals: Path, training: Path) -> Journal:
    """Return the journal of a training's folder, locked: an earlier call's, or else a new one."""
    named = training / _NAME_FILE
    if named.exists():
        earlier = Journal(journals / f"{named.read_text().strip()}.jsonl")
        if earlier.acquire(_PATIENCE_S):
            if (retired := training / earlier.path.name).exists():
                shutil.move(retired, earlier.path)
                earlier.acquire()
            return earlier
    journal = Journal(journals / f"{training.name}-{uuid4().hex[:12]}.jsonl")
    if training.exists():
        # The name first: after a kill in between, the next call still finds its run by it.
        with atomic_path(named) as temporary:
            temporary.write_text(journal.id)
    journal.acquire()
    return journal


def left_behind(journals: Path) -> Iterator[Journal]:
    """Yield the journals of processes that are gone, each locked while the caller has it."""
    for path in sorted(journals.glob("*.jsonl"), key=lambda file: file.stat().st_mtime):
        journal = Journal(path)
        if journal.acquire():
            try:
                if path.exists():
                    yield journal
            finally:
                journal.release()


def in_use(journals: Path) -> set[str]:
    """Return the ids of the journals that live processes hold."""
    left = {journal.id for journal in left_behind(journals)}
    return {path.stem for path in journals.glob("*.jsonl")} - left
