"""Hands a training's events to the console and to its MLflow run."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.runtime.tracking.run_logger import RunLogger
from pipeline.runtime.tracking.run_metadata import epoch_metrics, val_metrics
from pipeline.runtime.training.progress_bar import ProgressBar
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.bundle.description import Description
from pipeline.vision.training.checkpoint import BEST_FILE, MANIFEST_FILE
from pipeline.vision.training.job import Job
from pipeline.vision.training.training_state import (
    EpochProgress,
    Record,
    TrainingState,
    read_training_state,
)


class BestWeights:
    """Logs the weights of a new best epoch once a checkpoint of the training holds them.

    Attributes:
        arithmetic: how the training computes, once that is known.
    """

    def __init__(self, run_logger: RunLogger, job: Job, folder: Path) -> None:
        """Take what is trained, and the folder of the training's checkpoints."""
        self._run_logger, self._job, self._folder = run_logger, job, folder
        self._seen, self._epoch = "", 0
        self.arithmetic: Arithmetic | None = None

    def look(self) -> None:
        """Log the best weights of the newest checkpoint, if they are new."""
        newest = max(_whole_checkpoints(self._folder), key=lambda path: path.name, default=None)
        if newest is None or newest.name == self._seen:
            return
        try:
            state = read_training_state(newest)
        except FileNotFoundError:  # replaced by the next one
            return
        self._seen = newest.name
        if state.best_epoch not in (0, self._epoch):
            self._epoch = state.best_epoch
            # Its epochs may not have been read yet. MLflow orders values by time, so they go first.
            for record in state.history[: state.best_epoch]:
                log_epoch(self._run_logger, record)
            self._run_logger.checkpoint(
                newest / BEST_FILE,
                describe_best(self._job, state, self.arithmetic),
                state.best_epoch,
                val_metrics(state.history[state.best_epoch - 1]),
            )


def _whole_checkpoints(folder: Path) -> Iterator[Path]:
    """Yield the checkpoints below a folder, while others are written, moved and removed there.

    In a job, those that its driver has fetched lie in a folder of their group of workers.
    """
    for place, inner, files in os.walk(folder):  # which passes over what has gone meanwhile
        inner[:] = [name for name in inner if not name.startswith(".")]
        if MANIFEST_FILE in files:
            yield Path(place)


def describe_best(job: Job, state: TrainingState, arithmetic: Arithmetic | None) -> Description:
    """Describe the model of the best epoch, with its validation metrics."""
    metrics = val_metrics(state.history[state.best_epoch - 1])
    return job.description(
        {name.removeprefix("val_"): value for name, value in metrics.items()}, arithmetic
    )


def log_epoch(run_logger: RunLogger, record: Record) -> None:
    """Log an epoch's metrics under its number."""
    run_logger.log(epoch_metrics(record), int(record["epoch"]))


class EventHandler:
    """A reader of the event log."""

    def __init__(
        self,
        bar: ProgressBar,
        run_logger: RunLogger,
        best: BestWeights,
        wants_system_metrics: bool,
    ) -> None:
        self._bar, self._run_logger, self._best = bar, run_logger, best
        self.wants_system_metrics = wants_system_metrics
        self._logs: Path | None = None
        self._started = False

    def begin(self, logs: Path | None) -> None:
        """Open the run while Ray's processes start.

        A training in this process opens it with its first event: a stop before that leaves no run
        and need not wait for the store, and MLflow's import does not delay the first step.
        """
        self._logs = logs
        if logs is not None:
            self._run_logger.open()

    def compute(self, arithmetic: Arithmetic, text: str) -> None:
        """Show how the workers compute; they have just started, perhaps once more."""
        if self._started:
            self._bar.line(f"the workers were restarted; Ray's logs: {self._logs}")
        self._started = True
        self._best.arithmetic = arithmetic
        self.fact("compute", text)

    def fact(self, name: str, text: str) -> None:
        """Show it, and tag the run."""
        self._bar.line(text)
        self._run_logger.tag(f"convoy.{name}", text)

    def record(self, record: Record) -> None:
        """Show and log an epoch."""
        self._bar.record(record)
        log_epoch(self._run_logger, record)
        self._best.look()

    def system_metrics(
        self, node: str, number: int, time_ms: int, values: Mapping[str, float]
    ) -> None:
        """Log a sample of a node, where MLflow's UI looks for it."""
        metrics = {f"system/{node}/{name}": value for name, value in values.items()}
        self._run_logger.log(metrics, number, time_ms)

    def epoch_progress(self, epoch_progress: EpochProgress) -> None:
        """Show how far the running epoch is."""
        self._bar.epoch_progress(epoch_progress)
        self._best.look()
