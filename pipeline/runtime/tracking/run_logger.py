"""What a training tells of itself, on its way to the tracking store.

Everything is written to a file first; a thread of its own brings it to the store, now or later.
So the store holds up neither the start of a training, nor its epochs, nor its end for long.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.params import Tracking
from pipeline.runtime.tracking.journal import Entry, Spool, open_spool
from pipeline.runtime.tracking.stale_runs import this_process
from pipeline.runtime.tracking.store import check_address, lasting_address, shown, tracking_uri
from pipeline.runtime.tracking.uploader import Courier, say


def start_run(
    tracking: Tracking,
    *,
    name: str,
    params: Mapping[str, str],
    tags: Mapping[str, str],
    datasets: Sequence[Mapping[str, str]],
    spools: Path,
    folder: Path,
) -> "Recorder":
    """Prepare the run of a training, or to go on with the one that an earlier call began.

    Nothing is written and MLflow is not imported until `open`.

    Args:
        tracking: the store.
        name: of the run, as the UI shows it.
        params: flat, as text.
        tags: of the run, from its start.
        datasets: what is trained on, each with the keys name, digest, source, context ('training',
            'validation') and profile (JSON text).
        spools: the folder of all spools, see `spool_folder`.
        folder: of the training. It remembers which run is its own; while it is there, the training
            may go on, and so may the run.

    Raises:
        PipelineError: the store's address is not one that MLflow takes.
    """
    check_address(tracking_uri(tracking))
    begin = {"name": name, "tags": dict(tags)}
    details: list[Entry] = [{"act": "params", "values": dict(params)}] if params else []
    if datasets:
        details.append({"act": "datasets", "items": [dict(item) for item in datasets]})
    return Recorder(tracking, begin, details, spools, folder)


class Recorder:
    """A run that takes records whether or not the store answers just now."""

    def __init__(
        self, tracking: Tracking, begin: Entry, details: list[Entry], spools: Path, folder: Path
    ) -> None:
        """Take in what `start_run` prepared."""
        self._tracking = tracking
        self._begin, self._details = begin, details
        self._spools, self._folder = spools, folder
        self._spool: Spool | None = None
        self._courier: Courier | None = None
        self._written: set[tuple[str, int]] = set()
        self._ended = self._broken = False

    @property
    def run_id(self) -> str | None:
        """The run's id at the store, once it is there."""
        return self._courier.position.run_id if self._courier else None

    def open(self) -> None:
        """Begin the run, or go on with it, if that has not happened yet."""
        if self._spool or self._broken:
            return
        try:
            spool = open_spool(self._spools, self._folder)
            self._written = spool.values()
            spool.append(*self._first_entries(spool))
        except OSError as error:
            self._give_up(error)
            return
        self._spool = spool
        self._courier = Courier(self._tracking, spool)

    def log(self, metrics: Mapping[str, float], step: int, time_ms: int | None = None) -> None:
        """Record metrics of one step.

        After a restart the same steps come again: each metric is recorded once for each step.

        Args:
            metrics: values by name.
            step: the epoch, or whatever the metric is counted by.
            time_ms: when they were true, in ms since 1970; None for now.
        """
        self.open()
        values = {k: float(v) for k, v in metrics.items() if (k, step) not in self._written}
        self._written |= {(name, step) for name in values}
        if values:
            when_ms = _now_ms() if time_ms is None else time_ms
            self._append({"act": "metrics", "time_ms": when_ms, "step": step, "values": values})

    def tag(self, name: str, value: str) -> None:
        """Tag the run."""
        self._append({"act": "tags", "values": {name: value}})

    def end(self, status: str, tags: Mapping[str, str] | None = None) -> None:
        """End the run as 'FINISHED', 'FAILED' or 'KILLED', and wait a little for its delivery.

        What is not delivered by then is said; the first call alone counts.
        """
        if self._ended:
            return
        self._ended = True
        if tags:
            self._append({"act": "tags", "values": dict(tags)})
        self._append({"act": "end", "status": status, "time_ms": _now_ms()})
        if self._courier:
            self._report(self._courier.finish())

    def abandon(self) -> None:
        """End the run as KILLED; a training that was stopped before its start leaves none."""
        if self._spool:
            self.end("KILLED")

    def close(self) -> None:
        """Stop, and delete what is delivered and can never go on: its folder is gone."""
        if not self._courier or not self._spool or not self._courier.close():
            return
        if self._courier.count and self._spool.over and not self._spool.waiting:
            self._spool.delete()
        else:
            self._spool.release()

    def _first_entries(self, spool: Spool) -> list[Entry]:
        store = lasting_address(tracking_uri(self._tracking))
        place = {"store": store, "time_ms": _now_ms(), "folder": str(self._folder)}
        tags = self._begin["tags"] | this_process()
        if spool.store:
            return [{"act": "resume", **place, "values": tags}]
        experiment = {"experiment": self._tracking.experiment}
        create = {"act": "create", **place, **experiment, **self._begin, "tags": tags}
        return [create, *self._details]

    def _append(self, entry: Entry) -> None:
        self.open()
        if not self._spool or not self._courier or self._broken:
            return
        try:
            self._spool.append(entry)
        except OSError as error:
            self._give_up(error)
        self._courier.wake()

    def _give_up(self, error: OSError) -> None:
        """Go on without: a disk that is full must not end the training by this file."""
        self._broken = True
        say(f"training goes on without tracking: {self._spools} cannot be written ({error})")

    def _report(self, delivered: bool) -> None:
        """Say what the store lacks, or that it has all after all."""
        assert self._courier
        assert self._spool
        count, position = self._courier.count, self._courier.position
        where = shown(tracking_uri(self._tracking))
        if not delivered:
            say(
                f"{self._spool.waiting} records of this run wait in {self._spools} for the MLflow"
                f" store at {where} ({self._courier.reason}); convoy sync delivers them"
            )
        elif count and not position.gone and count.stored < count.written:
            say(f"the MLflow store at {where} has {count} values of run {position.run_id}")
        elif count and self._courier.was_away:
            words = f"the MLflow store at {where} answers again and has {count} values of this run"
            say(words, "tracking")


def _now_ms() -> int:
    return int(time.time() * 1000)
