"""Feeds the tracking store from a thread of its own: it holds up neither start nor training.

MLflow takes 2.5 s of CPU to import and open, which pass while Ray's processes start.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from pipeline.runtime.tracking import TrackedRun, Untracked


class Recorder:
    """A run that is being opened; what is logged before waits its turn."""

    def __init__(self, open_run: Callable[[], TrackedRun | Untracked]) -> None:
        """Start to open the run."""
        self._thread = ThreadPoolExecutor(1, "tracking")
        self._run = self._thread.submit(open_run)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics of one step, soon."""
        self._thread.submit(lambda: self._run.result().log(metrics, step))

    def tag(self, name: str, value: str) -> None:
        """Tag the run, soon."""
        self._thread.submit(lambda: self._run.result().tag(name, value))

    def end(self, status: str, tags: Mapping[str, str] | None = None) -> None:
        """Wait until all is logged, and end the run: 'FINISHED', 'FAILED' or 'KILLED'."""
        self._thread.submit(lambda: self._run.result().end(status, tags)).result()
        self._thread.shutdown()
