"""A lock that lies in the shared storage: one process of all machines holds it at a time.

Neither a folder on a network nor every bucket can create a file only if it is absent. So whoever
wants the lock first writes a claim, and then looks at all claims: of any two claimants, the later
one sees the earlier. Who sees a claim that is held, or an older one, leaves; who sees younger ones
alone waits until they have left. A listing must show what was written before it began, as a folder
and S3 do.

A claim is renewed again and again. Its process is taken for dead where it runs on this machine and
is gone; and on another machine, once the claim has not been renewed for `_EXPIRY_S`.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.remote import AwayError, in_haste
from pipeline.runtime.storage.shared import Storage
from pipeline.threads import in_background

_RENEWED_S = 10.0
_EXPIRY_S = 60.0  # without a renewal
_ABANDONED_S = 3600.0  # by the clocks of two machines, which may differ by some minutes
_PAUSE_S = 0.2
_PATIENCE_S = 5.0  # of a renewal, with a storage that is away


class LeaseTakenError(PipelineError):
    """Another process holds the lock."""


@dataclass(frozen=True)
class Claim:
    """A process that wants the lock, or holds it.

    Attributes:
        id: sorts by the time of the claim.
        host: name of the machine.
        machine: which names it until it starts again, and the process numbers that hold there.
        pid: of the process.
        started: when the process was started, in ticks of its machine.
        since: UTC, ISO 8601.
        held: whether it has the lock.
        renewals: how often the claim was written.
        renewed: when it was last, seconds since 1970 by its machine.
    """

    id: str
    host: str
    machine: str
    pid: int
    started: str
    since: str
    held: bool = False
    renewals: int = 0
    renewed: float = 0.0

    @classmethod
    def mine(cls) -> "Claim":
        """Return a claim of this process."""
        now = datetime.now(UTC)
        return cls(
            id=f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}",
            host=socket.gethostname(),
            machine=_machine(),
            pid=os.getpid(),
            started=_started(os.getpid()),
            since=now.isoformat(timespec="seconds"),
        )

    @property
    def holder(self) -> str:
        """The process, and since when, in words."""
        return f"process {self.pid} on {self.host}, since {self.since}"


class Lease:
    """The lock while it is held."""

    def __init__(self, storage: Storage, folder: str, claim: Claim) -> None:
        """Take what `held_lease` found."""
        self._storage, self._folder, self._claim = storage, folder, claim
        self._lost = threading.Event()

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken the lock, since this one seemed dead."""
        return self._lost.is_set()

    def check(self) -> None:
        """Go on only with the lock.

        Raises:
            PipelineError: it is lost.
        """
        if self.is_lost:
            raise PipelineError(
                "another process has taken the lock, since this one did not renew its claim for"
                f" {_EXPIRY_S:.0f} s; it goes on instead"
            )

    def _renew_until(self, ended: threading.Event) -> None:
        hasty = Storage(self._storage.uri, _PATIENCE_S)
        while not ended.wait(_RENEWED_S) and not self.is_lost:
            # An outage ends; nobody else can take the lock meanwhile.
            with suppress(AwayError):
                if _younger_holds(hasty, self._folder, self._claim):
                    self._lost.set()
                else:
                    self._claim = _write(hasty, self._folder, self._claim)


@contextmanager
def held_lease(storage: Storage, folder: str) -> Iterator[Lease]:
    """Hold the lock that lies in a folder of the storage until the block ends.

    Raises:
        LeaseTakenError: another process has it; says which, and since when.
    """
    claim = Claim.mine()
    try:
        claim = _acquire(storage, folder, claim)
        lease = Lease(storage, folder, claim)
        with in_background(lease._renew_until):
            yield lease
    finally:
        # A claim that stays is taken for that of a dead process. Who is stopped must not wait.
        with in_haste(_PAUSE_S), suppress(AwayError):
            storage.remove(_file(folder, claim.id))


def holder(storage: Storage, folder: str) -> Claim | None:
    """Return who holds the lock, or is about to; None for nobody. Does not wait."""
    return next((c for c in _claims(storage, folder) if not _is_gone(c)), None)


def _acquire(storage: Storage, folder: str, claim: Claim) -> Claim:
    seen: dict[str, tuple[int, float]] = {}
    claim, said = _write(storage, folder, claim), False
    while True:
        others = []
        for other in _claims(storage, folder):
            if other.id == claim.id:
                continue
            if _is_dead(other, seen):
                storage.remove(_file(folder, other.id))
            else:
                others.append(other)
        if not others:
            return _write(storage, folder, replace(claim, held=True))
        # One that may be dead is waited for, so that nobody leaves for the sake of a dead process.
        silent = [other for other in others if _is_silent(other)]
        for other in others:
            if other not in silent and (other.held or other.id < claim.id):
                raise LeaseTakenError(f"{other.holder}, holds the lock {storage.uri}/{folder}")
        if silent and not said:
            print(f"waits up to {_EXPIRY_S:.0f} s to see whether {silent[0].holder}, still lives")
            said = True
        time.sleep(_PAUSE_S)


def _claims(storage: Storage, folder: str) -> list[Claim]:
    """Return all claims, the oldest first."""
    found = []
    for name in storage.names(folder):
        content = storage.read(name)
        if content is not None:  # else it was just removed
            found.append(Claim(**json.loads(content)))
    return found


def _younger_holds(storage: Storage, folder: str, claim: Claim) -> bool:
    return any(other.held and other.id > claim.id for other in _claims(storage, folder))


def _write(storage: Storage, folder: str, claim: Claim) -> Claim:
    renewed = replace(claim, renewals=claim.renewals + 1, renewed=time.time())
    storage.write(_file(folder, claim.id), json.dumps(asdict(renewed)).encode())
    return renewed


def _file(folder: str, claim: str) -> str:
    return f"{folder}/{claim}.json"


def _is_gone(claim: Claim) -> bool:
    """Whether a claim is known to be of a dead process."""
    if claim.machine == _machine():
        return _started(claim.pid) != claim.started
    return time.time() - claim.renewed > _ABANDONED_S


def _is_silent(claim: Claim) -> bool:
    """Whether a claim on another machine should have been renewed by now; clocks may differ."""
    return claim.machine != _machine() and time.time() - claim.renewed > 2 * _RENEWED_S


def _is_dead(claim: Claim, seen: dict[str, tuple[int, float]]) -> bool:
    """Whether a claim is of a dead process, by what was seen of it so far."""
    if _is_gone(claim):
        return True
    if claim.machine == _machine():
        return False
    renewals, since_s = seen.get(claim.id, (claim.renewals, time.monotonic()))
    if renewals != claim.renewals:
        since_s = time.monotonic()
    seen[claim.id] = (claim.renewals, since_s)
    return time.monotonic() - since_s > _EXPIRY_S


def _machine() -> str:
    """Name this machine from its start on, and the space of process numbers in it."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _started(pid: int) -> str:
    """Return when a process was started; '' where it is gone, or nothing says."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return "" if Path("/proc/self").exists() or not _is_alive(pid) else "unknown"
    fields = status.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
