"""Hands a training's news to the console and to the tracking store."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.runtime.tracking.run_logger import Recorder
from pipeline.runtime.training.progress_bar import ProgressBar
from pipeline.vision.training.training_state import EpochProgress, Record


class EventHandler:
    """A reader of the diary."""

    def __init__(self, bar: ProgressBar, recorder: Recorder, wants_system_metrics: bool) -> None:
        self._bar, self._recorder = bar, recorder
        self.wants_system_metrics = wants_system_metrics
        self._logs: Path | None = None
        self._seen: set[str] = set()

    def begin(self, logs: Path | None) -> None:
        """Open the run."""
        self._logs = logs
        self._recorder.open()

    def fact(self, name: str, text: str) -> None:
        """Tell it, and tag the run."""
        if name == "compute" and name in self._seen:
            self._bar.line(f"the workers were restarted; Ray's logs: {self._logs}")
        self._seen.add(name)
        self._bar.line(text)
        self._recorder.tag(f"convoy.{name}", text)

    def record(self, record: Record) -> None:
        """Show and log an epoch."""
        self._bar.record(record)
        metrics = {name: value for name, value in record.items() if name != "epoch"}
        self._recorder.log(metrics, int(record["epoch"]))

    def system_metrics(
        self, node: str, number: int, time_ms: int, values: Mapping[str, float]
    ) -> None:
        """Log a sample of a node, where MLflow's UI looks for it."""
        metrics = {f"system/{node}/{name}": value for name, value in values.items()}
        self._recorder.log(metrics, number, time_ms)

    def epoch_progress(self, epoch_progress: EpochProgress) -> None:
        """Show how far the running epoch is."""
        self._bar.epoch_progress(epoch_progress)
