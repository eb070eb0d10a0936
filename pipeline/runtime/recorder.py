"""Feeds the tracking store from a thread of its own: it holds up neither start nor training."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from pipeline.runtime.tracking import TrackedRun, Untracked


class Recorder:
    """A run that is opened in the background.

    MLflow takes 2 s of CPU to import and open. They pass while the workers start, each step of
    which waits for the one before and leaves cores idle.
    """

    def __init__(self, open_run: Callable[[], TrackedRun | Untracked]) -> None:
        """Take in how to open the run."""
        self._open_run = open_run
        self._thread = ThreadPoolExecutor(1, "tracking")
        self._run: Future[TrackedRun | Untracked] | None = None

    def open(self) -> None:
        """Start to open the run, if that has not happened yet."""
        self._run = self._run or self._thread.submit(self._open_run)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics of one step, soon."""
        self._soon(lambda run: run.log(metrics, step))

    def tag(self, name: str, value: str) -> None:
        """Tag the run, soon."""
        self._soon(lambda run: run.tag(name, value))

    def end(self, status: str, tags: Mapping[str, str] | None = None) -> None:
        """Wait until all is recorded, and end the run: 'FINISHED', 'FAILED' or 'KILLED'."""
        self._soon(lambda run: run.end(status, tags)).result()
        self._thread.shutdown()

    def abandon(self) -> None:
        """End the run as KILLED; a training that was stopped before its start leaves none."""
        if self._run:
            self.end("KILLED")

    def _soon(self, act: Callable[[TrackedRun | Untracked], None]) -> Future[None]:
        self.open()
        run = self._run
        assert run
        return self._thread.submit(lambda: act(run.result()))
