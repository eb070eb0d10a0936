"""Events of a training, from its first worker to the driver: lines in a file of the driver.

Unlike messages through Ray, lines need no polling actor, cost the worker microseconds, and are
still there after a crash.
"""

import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from pipeline.runtime.session.run_files import LOCAL, RunFiles
from pipeline.threads import in_background
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.training.training_state import EpochProgress, Record

_POLL_S = 0.1


class Reader(Protocol):
    """Gets the events of a training, in a thread of their own, soon after they are written.

    Attributes:
        wants_system_metrics: whether those of the nodes are sampled.
    """

    wants_system_metrics: bool

    def begin(self, logs: Path | None) -> None:
        """Take note that workers are being started.

        Args:
            logs: folder of Ray's logs; None where this process is the worker.
        """

    def compute(self, arithmetic: Arithmetic, text: str) -> None:
        """Take in how the workers compute, which have just started."""

    def fact(self, name: str, text: str) -> None:
        """Take in something that a user may want to know about the training."""

    def record(self, record: Record) -> None:
        """Take in an epoch. After a restart, earlier ones come again."""

    def epoch_progress(self, epoch_progress: EpochProgress) -> None:
        """Take in how far the running epoch is."""

    def system_metrics(
        self, node: str, number: int, time_ms: int, values: Mapping[str, float]
    ) -> None:
        """Take in a sample of a node, see `session.system_metrics`."""


class EventLog:
    """Writes lines; `history` first, in place of what an earlier worker wrote."""

    def __init__(self, path: Path, history: Iterable[Record], files: RunFiles = LOCAL) -> None:
        self._path, self._files = path, files
        files.replace(path, "".join(_line("record", record) for record in history))

    def compute(self, arithmetic: Arithmetic, text: str) -> None:
        """Log how the workers compute."""
        self._append("compute", {"arithmetic": asdict(arithmetic), "text": text})

    def fact(self, name: str, text: str) -> None:
        """Log something that a user may want to know."""
        self._append("fact", [name, text])

    def record(self, record: Record) -> None:
        """Log an epoch that is done."""
        self._append("record", record)

    def epoch_progress(self, epoch_progress: EpochProgress) -> None:
        """Log how far the running epoch is."""
        self._append("epoch_progress", asdict(epoch_progress))

    def _append(self, kind: str, value: Any) -> None:
        self._files.append(self._path, _line(kind, value))


def _line(kind: str, value: Any) -> str:
    return json.dumps({kind: value}) + "\n"


@contextmanager
def following(path: Path, reader: Reader) -> Iterator[None]:
    """Hand each event of the log at `path` to `reader`, until the block ends.

    What stood there before the block is deleted, so that a log there is a new one.

    Raises:
        Exception: whatever the reader raised, when the block ends.
    """
    errors: list[Exception] = []

    def watch(ended: threading.Event) -> None:
        try:
            for lines in _new_lines(path, ended):
                for line in lines:
                    ((kind, value),) = json.loads(line).items()
                    _hand_on(reader, kind, value)
        except Exception as error:
            errors.append(error)

    path.unlink(missing_ok=True)
    with in_background(watch):
        yield
    if errors:
        raise errors[0]


def _hand_on(reader: Reader, kind: str, value: Any) -> None:
    match kind:
        case "compute":
            reader.compute(Arithmetic.of(value["arithmetic"]), value["text"])
        case "fact":
            reader.fact(*value)
        case "record":
            reader.record(value)
        case "epoch_progress":
            reader.epoch_progress(EpochProgress(**value))


def _new_lines(path: Path, ended: threading.Event) -> Iterator[list[str]]:
    """Yield the lines that were added since the last look, once more after `ended`."""
    inode, position = -1, 0
    while True:
        last_look = ended.is_set()
        if path.exists():
            with path.open() as file:
                # A restarted worker puts a new file in the place of the old one.
                if inode != os.fstat(file.fileno()).st_ino:
                    inode, position = os.fstat(file.fileno()).st_ino, 0
                file.seek(position)
                text = file.read()
            whole = text[: text.rfind("\n") + 1]  # the last line may be half written
            position += len(whole)
            yield whole.splitlines()
        if last_look:
            return
        ended.wait(_POLL_S)
