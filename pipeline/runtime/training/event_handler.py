"""Hands a training's events to the console and to its MLflow run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pipeline.runtime.ray.cluster import Cluster
from pipeline.runtime.session.checkpoint_store import checkpoints
from pipeline.runtime.tracking.run_logger import RunLogger
from pipeline.runtime.tracking.run_metadata import val_metrics
from pipeline.runtime.training.progress_bar import ProgressBar
from pipeline.vision.bundle.description import Description
from pipeline.vision.training.checkpoint import BEST_FILE
from pipeline.vision.training.training_state import EpochProgress, Progress, Record, read_progress


class BestWeights:
    """Logs the weights of a new best epoch once a checkpoint of the training holds them."""

    def __init__(self, run_logger: RunLogger, description: Description, folder: Path) -> None:
        """Take the description of the model, and the folder of the training's checkpoints."""
        self._run_logger, self._description, self._folder = run_logger, description, folder
        self._seen, self._epoch = "", 0

    def look(self) -> None:
        """Log the best weights of the newest checkpoint, if they are new."""
        newest = next(iter(checkpoints(self._folder)), None)
        if newest is None or newest.name == self._seen:
            return
        try:
            progress = read_progress(newest)
        except FileNotFoundError:  # replaced by the next one
            return
        self._seen = newest.name
        if progress.best_epoch not in (0, self._epoch):
            self._epoch = progress.best_epoch
            self._run_logger.checkpoint(
                newest / BEST_FILE,
                describe_best(self._description, progress),
                progress.best_epoch,
                val_metrics(progress.history[progress.best_epoch - 1]),
            )


def describe_best(description: Description, progress: Progress) -> Description:
    """Return the description with the validation metrics of the best epoch."""
    metrics = val_metrics(progress.history[progress.best_epoch - 1])
    validation = {name.removeprefix("val_"): value for name, value in metrics.items()}
    return replace(description, validation=validation)


class EventHandler:
    """A reader of the event log."""

    def __init__(
        self, bar: ProgressBar, run_logger: RunLogger, cluster: Cluster, best: BestWeights
    ) -> None:
        self._bar, self._run_logger, self._cluster, self._best = bar, run_logger, cluster, best
        self._facts: set[str] = set()

    def begin(self) -> None:
        """Open the run."""
        self._run_logger.open()

    def fact(self, name: str, text: str) -> None:
        """Show it, and tag the run."""
        if name == "compute" and name in self._facts:
            self._bar.line(f"the workers were started anew; Ray's logs: {self._cluster.logs}")
        self._facts.add(name)
        self._bar.line(text)
        self._run_logger.tag(f"convoy.{name}", text)

    def record(self, record: Record) -> None:
        """Show and log an epoch."""
        self._bar.record(record)
        metrics = {name: value for name, value in record.items() if name != "epoch"}
        self._run_logger.log(metrics, int(record["epoch"]))
        self._best.look()

    def load(self, node: str, number: int, time_ms: int, values: Mapping[str, float]) -> None:
        """Log a sample of a node's load, where MLflow's UI looks for it."""
        metrics = {f"system/{node}/{name}": value for name, value in values.items()}
        self._run_logger.log(metrics, number, time_ms)

    def epoch_progress(self, epoch_progress: EpochProgress) -> None:
        """Show how far the running epoch is."""
        self._bar.epoch_progress(epoch_progress)
        self._best.look()
