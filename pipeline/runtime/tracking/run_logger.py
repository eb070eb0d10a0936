"""What a training calls to record its run.

Everything is written to a journal first; a thread of its own brings it to the store, now or later.
So the store delays neither the start of a training, nor its epochs, nor its end for long.
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pipeline.params import Tracking
from pipeline.runtime.storage.job_context import current_job
from pipeline.runtime.tracking.checkpoints import keep_copy
from pipeline.runtime.tracking.journal import Entry, Journal, open_journal
from pipeline.runtime.tracking.run_metadata import RunMetadata
from pipeline.runtime.tracking.store import check_address, lasting_address, shown, tracking_uri
from pipeline.runtime.tracking.uploader import Uploader, say
from pipeline.vision.bundle.description import Description


class RunLogger:
    """The run of a training, or of an earlier call of it, which then goes on.

    Nothing is written, and MLflow is not imported, until `open`.
    """

    def __init__(
        self, tracking: Tracking, metadata: RunMetadata, journals: Path, folder: Path
    ) -> None:
        """Take the store, what the run begins with, and the folder of all journals.

        The training's own folder keeps the id of the journal. While it is there, the training may
        go on, and so may the run.

        Raises:
            PipelineError: the store's address is not one that MLflow takes.
        """
        self._uri = tracking_uri(tracking)
        check_address(self._uri)
        self._tracking, self._metadata = tracking, metadata
        self._journals, self._folder = journals, folder
        self._journal: Journal | None = None
        self._uploader: Uploader | None = None
        self._ended = self._broken = False

    def open(self) -> None:
        """Begin the run, or go on with it, if that has not happened yet."""
        self._append()

    def log(self, metrics: Mapping[str, float], step: int, time_ms: int | None = None) -> None:
        """Record metrics of one step (an epoch, say), by name.

        Each is recorded once: after a restart the same steps come again. They were measured at
        `time_ms` since 1970, or now.
        """
        self._append()
        known = self._journal.values if self._journal else {}
        values = {name: float(v) for name, v in metrics.items() if (name, step) not in known}
        if values:
            when_ms = _now_ms() if time_ms is None else time_ms
            self._append({"act": "metrics", "time_ms": when_ms, "step": step, "values": values})

    def tag(self, name: str, value: str) -> None:
        """Tag the run."""
        self._append({"act": "tags", "values": {name: value}})

    def checkpoint(
        self, weights: Path, description: Description, step: int, metrics: Mapping[str, float]
    ) -> None:
        """Keep the weights of a new best epoch as a checkpoint of the run, if that has begun.

        `weights` is a .safetensors file, `step` the epoch, and `metrics` are its validation
        metrics, as in `log`.
        """
        keep, journal = self._tracking.checkpoints, self._journal
        if keep == "off" or journal is None or self._broken:
            return
        self.log(metrics, step)
        try:
            digest = keep_copy(journal, weights, description)
        except OSError as error:
            if weights.exists():  # otherwise the training has replaced it by the next one
                say(f"training goes on without the checkpoint of epoch {step}: {error}")
            return
        entry = {"act": "checkpoint", "keep": keep, "step": step, "weights": digest}
        self._append(entry | {"values": {name: journal.values[name, step] for name in metrics}})
        for copy in journal.copies.iterdir():
            # Nobody reads the others: they are uploaded when the run has ended.
            if keep == "best" and copy.name != digest:
                shutil.rmtree(copy)

    def end(self, status: str, tags: Mapping[str, str] | None = None) -> None:
        """End the run as 'FINISHED', 'FAILED' or 'KILLED', and wait a little for its delivery.

        What is not delivered by then is said. Only the first call counts.
        """
        if self._ended:
            return
        self._ended = True
        if tags:
            self._append({"act": "tags", "values": dict(tags)})
        self._append({"act": "end", "status": status, "time_ms": _now_ms()})
        if not self._journal or not self._uploader:
            return
        journal, where = self._journal, f"the MLflow store at {shown(self._uri)}"
        if not self._uploader.finish():
            say(
                f"{journal.waiting} records of this run wait in {self._journals} for {where}"
                f" ({self._uploader.reason}); convoy sync delivers them"
            )
        elif not journal.complete:
            say(f"{where} has {journal.count} values of run {journal.run_id}")

    def abandon(self) -> None:
        """End the run as KILLED; a training that was stopped before its start leaves none."""
        if self._journal:
            self.end("KILLED")

    def close(self) -> None:
        """Stop. A journal that is delivered and can never go on is deleted."""
        if self._uploader:
            self._uploader.close()

    def _begin(self) -> Journal:
        journal = open_journal(self._journals, self._folder)
        job = current_job()
        elsewhere = job.store if job else None
        start = {"act": "start", "time_ms": _now_ms()}
        start |= {"store": elsewhere or lasting_address(self._uri)}
        start |= {"experiment": self._tracking.experiment, "folder": str(self._folder)}
        start |= asdict(self._metadata)
        # A store refuses other values of params.
        journal.append(start | ({"params": {}, "datasets": {}} if journal.entries else {}))
        if not elsewhere:
            self._uploader = Uploader(self._tracking, journal)
        return journal

    def _append(self, *entries: Entry) -> None:
        """Write entries, or go on without: a full disk must not end the training."""
        try:
            if self._journal is None and not self._broken:
                self._journal = self._begin()
            for entry in entries:
                # Its end is written also by a training that has lost records.
                if self._journal and (entry["act"] == "end" or not self._broken):
                    self._journal.append(entry)
        except OSError as error:
            path = self._journal.path if self._journal else self._journals
            if not self._broken:
                say(f"training goes on without tracking: {path} cannot be written ({error})")
            self._broken = True


def _now_ms() -> int:
    return int(time.time() * 1000)
