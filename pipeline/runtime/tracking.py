"""MLflow runs: one per trained model, fed by the process that starts the training.

Workers know nothing of MLflow: they append records to a file, which the driver follows. A
tracking server that is away therefore delays records, and never stops a training.
"""

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.errors import PipelineError
from pipeline.params import Tracking

BUNDLE_TAG = "convoy.bundle"
STAGE_TAG = "convoy.stage"
_SQLITE = "sqlite:///"
_MAX_VALUE = 500  # characters of a logged parameter
_METRICS_PER_CALL = 1000  # MLflow's limits
_PARAMS_PER_CALL = 100
_PAUSE_S = 30.0  # after a failed delivery


def tracking_uri(tracking: Tracking) -> str:
    """Return MLFLOW_TRACKING_URI, or else the address in params.yaml."""
    return os.environ.get("MLFLOW_TRACKING_URI") or tracking.uri


def store_file(uri: str) -> Path | None:
    """Return the file of a SQLite store, None for a server."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def shown(uri: str) -> str:
    """Return an address as messages may show it: without user and password."""
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def open_client(tracking: Tracking) -> Any:
    """Connect to the tracking store and make its experiment, if it is not there yet.

    Returns:
        A `MlflowClient`.

    Raises:
        PipelineError: the address is not one that MLflow takes, or nobody answers there.
    """
    uri = tracking_uri(tracking)
    with explained(uri), _first_come(uri):
        client = connect(tracking)
        if client.get_experiment_by_name(tracking.experiment) is None:
            # Beside the store, not wherever a later process happens to run.
            file = store_file(uri)
            artifacts = (file.resolve().parent / "mlartifacts").as_uri() if file else None
            client.create_experiment(tracking.experiment, artifacts)

        import mlflow

        mlflow.set_experiment(tracking.experiment)
    return client


def connect(tracking: Tracking) -> Any:
    """Connect to the tracking store and make nothing there.

    Raises:
        PipelineError: the address is not one that MLflow takes.
    """
    _prepare_environment()
    import mlflow

    _less_chatter()
    uri = tracking_uri(tracking)
    file = store_file(uri)
    with explained(uri), _kept_environment("MLFLOW_TRACKING_URI"):
        # MLflow keeps one connection per address: make it one that holds in any folder.
        mlflow.set_tracking_uri(f"{_SQLITE}{file.resolve()}" if file else uri)
        return mlflow.MlflowClient()


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into one line that names the store."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, OSError) as error:
        raise PipelineError(
            f"the MLflow store at {shown(uri)} fails: {str(error).replace(uri, shown(uri))};"
            " start the server or change tracking.uri in params.yaml (MLFLOW_TRACKING_URI"
            " overrides it)"
        ) from error


class TrackedRun:
    """A run that takes records whether or not the store answers just now."""

    def __init__(self, client: Any, run_id: str, logged: Iterable[int] = ()) -> None:
        """Take in the run, and the steps that an earlier call has logged to it."""
        self.run_id = run_id
        self._client = client
        self._logged = set(logged)
        self._waiting: list[Any] = []
        self._next_try_s = float("-inf")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics of one step; what cannot be delivered now goes with a later call.

        After a restart the same steps come again, with the same metrics: each is logged once.
        """
        from mlflow.entities import Metric

        if step in self._logged:
            return
        self._logged.add(step)
        now_ms = int(time.time() * 1000)
        self._waiting += [Metric(name, value, now_ms, step) for name, value in metrics.items()]
        if time.monotonic() >= self._next_try_s:
            self._deliver()

    def tag(self, name: str, value: str) -> None:
        """Set a tag; a store that is away goes without it."""
        from mlflow.exceptions import MlflowException

        with suppress(MlflowException):
            self._client.set_tag(self.run_id, name, value)

    def end(self, status: str, tags: Mapping[str, str] | None = None) -> None:
        """End the run: 'FINISHED', 'FAILED' or 'KILLED'."""
        from mlflow.exceptions import MlflowException

        self._deliver()
        try:
            for name, value in (tags or {}).items():
                self._client.set_tag(self.run_id, name, value)
            self._client.set_terminated(self.run_id, status)
        except MlflowException as error:
            _warn(f"run {self.run_id} could not be ended as {status}: {error}")
        if self._waiting:
            _warn(f"{len(self._waiting)} metrics of run {self.run_id} could not be delivered")

    def _deliver(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            while self._waiting:
                piece = self._waiting[:_METRICS_PER_CALL]
                self._client.log_batch(self.run_id, metrics=piece)
                del self._waiting[: len(piece)]
        except MlflowException:
            # Each try may take seconds: a store that is away must not hold up the training.
            self._next_try_s = time.monotonic() + _PAUSE_S


class Untracked:
    """Stands for a run while no store answers."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Drop the record: it also stands in the training's history."""

    def tag(self, name: str, value: str) -> None:
        """Drop the tag."""

    def end(self, status: str, tags: Mapping[str, str] | None = None) -> None:
        """End nothing."""


def start_run(
    tracking: Tracking,
    *,
    name: str,
    params: Mapping[str, Any],
    tags: Mapping[str, str],
    remember: Path,
) -> TrackedRun | Untracked:
    """Start a run, or go on with the one whose id stands in the file `remember`.

    Args:
        tracking: the store.
        name: of the run, as the UI shows it.
        params: nested values; they are logged flat, with dots.
        tags: logged as they are.
        remember: where the id is kept until the training has ended.
    """
    from mlflow.exceptions import MlflowException

    try:
        client = open_client(tracking)
        earlier = _resume(client, remember)
        if earlier:
            return earlier
        experiment = client.get_experiment_by_name(tracking.experiment)
        run_id = client.create_run(experiment.experiment_id, run_name=name, tags=tags).info.run_id
        remember.parent.mkdir(parents=True, exist_ok=True)
        remember.write_text(run_id)
        _log_params(client, run_id, params)
    except (MlflowException, PipelineError) as error:
        _warn(f"training goes on without tracking: {error}")
        return Untracked()
    return TrackedRun(client, run_id)


def _log_params(client: Any, run_id: str, params: Mapping[str, Any]) -> None:
    """Log nested values flat, many per call: each call takes some 10 ms."""
    from mlflow.entities import Param

    flat = [Param(key, str(value)[:_MAX_VALUE]) for key, value in flatten(params).items()]
    for start in range(0, len(flat), _PARAMS_PER_CALL):
        client.log_batch(run_id, params=flat[start : start + _PARAMS_PER_CALL])


def _resume(client: Any, remember: Path) -> TrackedRun | None:
    """Go on with the remembered run, unless the store has forgotten it."""
    from mlflow.exceptions import MlflowException

    if not remember.exists():
        return None
    run_id = remember.read_text().strip()
    try:
        client.update_run(run_id, status="RUNNING")
        logged = _logged_steps(client, run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return TrackedRun(client, run_id, logged)


def _logged_steps(client: Any, run_id: str) -> set[int]:
    """Return the steps for which all of the run's metrics are there."""
    names = client.get_run(run_id).data.metrics
    steps = [{entry.step for entry in client.get_metric_history(run_id, n)} for n in names]
    return set.intersection(*steps) if steps else set()


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn nested mappings into one, with keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _prepare_environment() -> None:
    """Set what MLflow reads at its import: no call home, no pickles, short waits."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


def _less_chatter() -> None:
    """Keep warnings, drop MLflow's notes on its tables; its import sets the levels anew."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def _kept_environment(name: str) -> Iterator[None]:
    """Undo what the block does to an environment variable: MLflow sets one on the side."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


@contextmanager
def _first_come(uri: str) -> Iterator[None]:
    """Let one process at a time open a SQLite store: two migrations of a fresh one clash."""
    file = store_file(uri)
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        yield


def _warn(message: str) -> None:
    print(f"warning: {' '.join(message.split())}", file=sys.stderr)
