"""Records that wait on disk until the tracking store has them: one file of JSON lines per run.

The file tells what is to be done at the store, in order, with the times at which it happened; so
to do it twice changes nothing. It is only ever appended to, by one process at a time, which holds
its lock for as long as it lives. How far the store has it stands in a file beside it.
"""

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock, Timeout

from pipeline.files import atomic_path
from pipeline.runtime.tracking.store import repository

_REMEMBERED = "spool"  # the file in a training's folder that names its spool
_PATIENCE_S = 30.0  # for another process that just delivers what an earlier one left

Entry = dict[str, Any]


def spool_folder(storage: str) -> Path:
    """Return the folder of all spools: beside that of the trainings, `resources.storage`.

    An experiment that DVC runs in a temporary folder spools in the repository, which stays.
    """
    return (repository() / storage).resolve().parent / "spool"


@dataclass(frozen=True)
class Position:
    """How far a store has a spool.

    Attributes:
        store: its address; at another one all is still to be delivered.
        offset: in bytes; what stands before it is delivered.
        run_id: of the run at the store, once there is one.
        refused: number of values that the store did not take, for good.
        gone: whether the run was deleted there, so that nothing more is delivered.
    """

    store: str
    offset: int = 0
    run_id: str | None = None
    refused: int = 0
    gone: bool = False


class Spool:
    """One run's file. Whoever appends or delivers holds its lock."""

    def __init__(self, path: Path) -> None:
        """Take in the path, `<folder of spools>/<id>.jsonl`; nothing is touched."""
        self.path = path
        # Released by whichever thread ends last.
        self._lock = FileLock(path.with_suffix(".lock"), thread_local=False)
        self._turn = threading.Lock()

    @property
    def id(self) -> str:
        """The name by which the run is found again at the store."""
        return self.path.stem

    def acquire(self, patience_s: float = 0.0) -> bool:
        """Take the lock and cut off a line that a killed process left half-written.

        Args:
            patience_s: how long to wait for another process; 0 does not wait.

        Returns:
            Whether the spool is this process's now.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=patience_s)
        except Timeout:
            return False
        if self.path.exists():
            whole = self.path.read_bytes().rfind(b"\n") + 1
            os.truncate(self.path, whole)
        return True

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release(force=True)

    def append(self, *entries: Entry) -> None:
        """Add entries in one write: killed at any moment, each is there whole or not at all."""
        text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
        with self._turn, self.path.open("ab", buffering=0) as file:
            file.write(text.encode())

    def entries(self, offset: int = 0) -> Iterator[tuple[Entry, int]]:
        """Yield the entries from `offset` on, each with the offset of the next.

        A line that is no JSON object, left by a machine that lost power, is an entry without an
        act.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # being written
                offset += len(line)
                yield _parse(line), offset

    def position(self) -> Position:
        """Return how far the store that the run belongs to has it."""
        store = self.store
        try:
            found = Position(**json.loads(self._position_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return Position(store)  # to deliver once more changes nothing
        return found if found.store == store else Position(store)

    def remember(self, position: Position) -> None:
        """Keep how far the store has it."""
        with atomic_path(self._position_file) as temporary:
            temporary.write_text(json.dumps(asdict(position)), encoding="utf-8")

    @property
    def store(self) -> str:
        """The address of the store that the run belongs to; '' when nothing was written yet."""
        return str(self._latest("store") or "")

    @property
    def experiment(self) -> str:
        """The name of the experiment that the run belongs to."""
        return str(self._latest("experiment"))

    @property
    def status(self) -> str | None:
        """How the run ended, None while it goes on."""
        status = None
        for entry, _ in self.entries():
            if entry["act"] in ("create", "resume", "end"):
                status = entry.get("status")
        return status

    @property
    def waiting(self) -> int:
        """The number of records that the store does not have yet: metric values and others."""
        left = [entry for entry, _ in self.entries(self.position().offset)]
        return sum(len(entry["values"]) if entry["act"] == "metrics" else 1 for entry in left)

    def values(self) -> set[tuple[str, int]]:
        """Return the name and step of each metric value that was written."""
        return {
            (name, entry["step"])
            for entry, _ in self.entries()
            if entry["act"] == "metrics"
            for name in entry["values"]
        }

    @property
    def last_ms(self) -> int:
        """When the run was last heard of, by its own words; in ms since 1970."""
        times = [entry.get("time_ms", 0) for entry, _ in self.entries()]
        return max(times, default=0)

    @property
    def over(self) -> bool:
        """Whether the run has ended and can never go on: its training's folder is gone."""
        folder = self._latest("folder")
        return self.status is not None and not (folder and Path(folder).exists())

    def delete(self) -> None:
        """Delete all files of a spool that is locked here, and unlock it."""
        self.path.unlink(missing_ok=True)
        self._position_file.unlink(missing_ok=True)
        self.path.with_suffix(".lock").unlink(missing_ok=True)
        self.release()

    @property
    def _position_file(self) -> Path:
        return self.path.with_suffix(".position")

    def _latest(self, key: str) -> Any:
        found = [entry[key] for entry, _ in self.entries() if key in entry]
        return found[-1] if found else None


def open_spool(spools: Path, training: Path) -> Spool:
    """Return the spool of a training, locked: that of an earlier call, or else a new one.

    Args:
        spools: the folder of all spools.
        training: the training's folder, which remembers its spool, if it is there.
    """
    remembered = training / _REMEMBERED
    if remembered.exists():
        earlier = Spool(spools / f"{remembered.read_text().strip()}.jsonl")
        if earlier.acquire(_PATIENCE_S):
            return earlier
    spool = Spool(spools / f"{training.name}-{uuid4().hex[:12]}.jsonl")
    if training.exists():
        # The name first: killed in between, the next call still finds its run by it.
        with atomic_path(remembered) as temporary:
            temporary.write_text(spool.id)
    acquired = spool.acquire()
    assert acquired
    return spool


def left_behind(spools: Path) -> Iterator[Spool]:
    """Yield the spools of processes that are gone, each locked while the caller looks at it."""
    for path in sorted(spools.glob("*.jsonl"), key=lambda file: file.stat().st_mtime):
        spool = Spool(path)
        if not spool.acquire():
            continue
        try:
            if path.exists():
                yield spool
        finally:
            spool.release()


def held(spools: Path) -> list[str]:
    """Return the names of spools whose processes live."""
    names = []
    for path in sorted(spools.glob("*.jsonl")):
        spool = Spool(path)
        if spool.acquire():
            spool.release()
        else:
            names.append(spool.id)
    return names


def _parse(line: bytes) -> Entry:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    return entry if isinstance(entry, dict) and "act" in entry else {"act": "damaged"}
