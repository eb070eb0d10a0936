"""Feeds the tracking store from a thread of its own: it holds up neither start nor training."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from pipeline.params import Tracking
from pipeline.runtime import tracking as _tracking
from pipeline.runtime.tracking import TrackedRun, Untracked


def start_run(
    tracking: Tracking,
    *,
    name: str,
    params: Mapping[str, str],
    tags: Mapping[str, str],
    datasets: Sequence[Mapping[str, str]],  # noqa: ARG001
    spools: Path,  # noqa: ARG001
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
    return Recorder(
        lambda: _tracking.start_run(
            tracking, name=name, params=params, tags=tags, remember=folder / "mlflow_run_id"
        )
    )


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

    def close(self) -> None:
        """Give the run back: whoever comes next may go on with it."""

    def _soon(self, act: Callable[[TrackedRun | Untracked], None]) -> Future[None]:
        self.open()
        run = self._run
        assert run
        return self._thread.submit(lambda: act(run.result()))
