"""The tracking store: its address, how to reach it, and what to say when it fails.

Nothing here imports MLflow before it must: that takes 2 s.
"""

import getpass
import hashlib
import importlib.util
import json
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from filelock import FileLock
from packaging.version import Version

from pipeline.errors import PipelineError, did_you_mean
from pipeline.files import repository
from pipeline.params import Tracking
from pipeline.runtime.tracking.database import ensure_database

BUNDLE_TAG = "convoy.bundle"
STAGE_TAG = "convoy.stage"
WEIGHTS_TAG = "convoy.weights"
_SQLITE = "sqlite:///"
# Databases that MLflow writes to directly, each with the package that SQLAlchemy takes by default.
_DRIVERS = {"sqlite": "sqlite3", "postgresql": "psycopg", "mysql": "MySQLdb", "mssql": "pyodbc"}
_PACKAGES = {"pysqlite": "sqlite3", "mysqldb": "MySQLdb"}  # of drivers with another name
# Columns of MLflow's list of runs, which by itself shows none of these.
_COLUMNS = [
    "tags.`convoy.recipe`",
    "metrics.`best_val_macro_f1`",
    "metrics.`test/macro_f1`",
    "metrics.`test_final/macro_f1`",
    "metrics.`test_final/macro_f1.low`",
    "metrics.`test_final/macro_f1.high`",
    "tags.`convoy.decision`",
]
_VIEW = {"name": "Convoy", "createdAt": 0, "state": json.dumps({"selectedColumns": _COLUMNS})}
# So that the UI shows it as training of models at once, charts this metric first, and has a view
# with these columns.
_EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.experiment.primaryMetric.name": "test/macro_f1",
    "mlflow.sharedViewState.convoy": json.dumps(_VIEW),
}
_SERVERS = ("http", "https")
_HOSTED = "databricks"


def tracking_uri(tracking: Tracking) -> str:
    """Return MLFLOW_TRACKING_URI, or else the address in params.yaml.

    A relative SQLite file of an experiment that DVC runs in a temporary folder is that of the
    repository, which stays.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or tracking.uri
    file = store_file(uri)
    if file is None or file.is_absolute() or repository() == Path():
        return uri
    return f"{_SQLITE}{repository() / file}"


def store_file(uri: str) -> Path | None:
    """Return the file of a SQLite store, None for a server."""
    return Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None


def reached_from_elsewhere(uri: str) -> bool:
    """Whether other machines may reach the store: it is no file of this one, nor on loopback."""
    host = _split(uri).hostname or ""
    return not store_file(uri) and host not in ("", "localhost", "::1") and host[:4] != "127."


def is_database(uri: str) -> bool:
    """Whether MLflow writes to a store directly, without a server in between."""
    return _split(uri).scheme.partition("+")[0] in _DRIVERS


def shown(uri: str) -> str:
    """Return an address as messages may show it: without user, password and options."""
    scheme, separator, rest = uri.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2].partition('?')[0]}"


def lasting_address(uri: str) -> str:
    """Return an address that means the same store in any folder; without secrets."""
    file = store_file(uri)
    return f"{_SQLITE}{file.resolve()}" if file else shown(uri).rstrip("/")


def without_secrets(text: str, uri: str) -> str:
    """Return what a library says of a store, without the user and password in its address."""
    text = text.replace(uri, shown(uri))
    parts = _split(uri)
    for secret in (parts.password, unquote(parts.password or "")):
        text = text.replace(secret, "...") if secret else text
    for user in (parts.username, unquote(parts.username or "")):
        text = text.replace(f'"{user}"', '"..."') if user else text
    return re.sub(r"://[^\s/]*@", "://", text)


def check_address(uri: str) -> None:
    """Find out, without MLflow, whether an address is one that it takes.

    Raises:
        PipelineError: it is not.
    """
    if uri == _HOSTED:
        return
    parts = _split(uri)
    base, _, driver = parts.scheme.partition("+")
    if base in _SERVERS:
        _check_server(uri, parts)
    elif base in _DRIVERS:
        needed = _PACKAGES.get(driver, driver) or _default_driver(base)
        if base == "sqlite" and len(uri.removeprefix(_SQLITE)) in (0, len(uri)):
            raise _bad_address(uri, "names no file, need sqlite:///FILE")
        if importlib.util.find_spec(needed) is None:
            raise _bad_address(uri, f"needs the Python package {needed}, which is not installed")
    elif base in ("", "file"):
        # Also where MLFLOW_ALLOW_FILE_STORE permits it: there, a metric sent twice is kept twice.
        raise _bad_address(uri, "is a folder, in which a record may be kept twice; need a database")
    else:
        plugins = {plugin.name for plugin in entry_points(group="mlflow.tracking_store")}
        schemes = [*_SERVERS, *_DRIVERS, _HOSTED, *sorted(plugins)]
        if base not in schemes:
            nearest = did_you_mean(base, schemes)
            known = f"{', '.join(schemes[:-1])} or {schemes[-1]}"
            raise _bad_address(uri, f"begins with {base}{nearest}; need {known}")


def _default_driver(base: str) -> str:
    if base == "postgresql" and Version(version("sqlalchemy")) < Version("2.1"):
        return "psycopg2"
    return _DRIVERS[base]


def _check_server(uri: str, parts: SplitResult) -> None:
    try:
        port = parts.port
    except ValueError as error:
        raise _bad_address(uri, "has a port that is no number from 1 to 65535") from error
    if not parts.hostname or port == 0:
        raise _bad_address(uri, "lacks a host or a port, need http://HOST:PORT")


def _split(uri: str) -> SplitResult:
    try:
        return urlsplit(uri)
    except ValueError as error:  # such as an open bracket
        raise _bad_address(uri, f"is none ({error})") from error


def _bad_address(uri: str, why: str) -> PipelineError:
    return PipelineError(
        f"the MLflow address {shown(uri)} {why}; change tracking.uri in params.yaml"
        " (MLFLOW_TRACKING_URI overrides it), such as sqlite:///mlflow.db or http://HOST:5000"
    )


def open_client(tracking: Tracking) -> Any:
    """Connect to the tracking store and make its experiment, if it is not there yet.

    Returns:
        A `MlflowClient`.

    Raises:
        PipelineError: the address is not one that MLflow takes, or nobody answers there.
    """
    uri = tracking_uri(tracking)
    client = connect(tracking)
    with explained(uri):
        experiment_id(client, uri, tracking.experiment)
    return client


def connect(tracking: Tracking) -> Any:
    """Connect to the tracking store and make nothing there.

    Raises:
        PipelineError: the address is not one that MLflow takes, or a database does not answer.
    """
    uri = tracking_uri(tracking)
    check_address(uri)
    load_mlflow()
    with explained(uri):
        return client_of(uri)


def client_of(uri: str) -> Any:
    """Return a `MlflowClient`; the caller handles what MLflow raises."""
    load_mlflow()
    import mlflow

    file = store_file(uri)
    with _first_come(uri):
        if file:
            ensure_database(file)
        _probe(uri)
        # MLflow keeps one connection per address: make it one that holds in any folder.
        return mlflow.MlflowClient(tracking_uri=f"{_SQLITE}{file.resolve()}" if file else uri)


@contextmanager
def as_default(client: Any) -> Iterator[None]:
    """Make a client's store the one of MLflow's functions that take no client.

    It is process-wide state, which threads share, so it is for the few that need it: logging a
    model and finding the files behind `models:/`.
    """
    import mlflow

    with kept_environment("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri(client.tracking_uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(None)


def load_mlflow() -> None:
    """Import MLflow, for the first time in this process or not."""
    prepare_environment()
    import mlflow  # noqa: F401

    _less_chatter()


def experiment_id(client: Any, uri: str, name: str) -> str:
    """Return the id of an experiment, which is made if it is not there yet."""
    from mlflow.exceptions import MlflowException

    with _first_come(uri):
        found = client.get_experiment_by_name(name)
        if found is not None:
            if found.lifecycle_stage == "deleted":
                raise PipelineError(
                    f"the experiment {name} was deleted from the MLflow store at {shown(uri)};"
                    " restore it there, or change tracking.experiment in params.yaml"
                )
            return str(found.experiment_id)
        # Beside the store, not wherever a later process happens to run.
        file = store_file(uri)
        artifacts = (file.resolve().parent / "mlartifacts").as_uri() if file else None
        try:
            return str(client.create_experiment(name, artifacts, _EXPERIMENT_TAGS))
        except MlflowException:
            # On a server, others may have been first.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into one line that names the store."""
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, CommandError, OSError) as error:
        error = getattr(error, "orig", None) or error  # the database's own words
        raise PipelineError(
            f"the MLflow store at {shown(uri)} fails: {without_secrets(str(error), uri)};"
            " start the server or change tracking.uri in params.yaml (MLFLOW_TRACKING_URI"
            " overrides it)"
        ) from error


def prepare_environment() -> None:
    """Set what MLflow reads at its import: no call home, no pickles, short waits, no chatter."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("PGCONNECT_TIMEOUT", "10")  # for libpq; without it, two minutes


def _less_chatter() -> None:
    """Keep warnings, drop MLflow's notes on its tables; its import sets the levels again."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def kept_environment(name: str) -> Iterator[None]:
    """Undo what the block does to an environment variable: MLflow sets one on the side."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def _probe(uri: str) -> None:
    """Connect once to a database: MLflow itself would try ten times, for minutes."""
    if not is_database(uri):
        return
    from mlflow.exceptions import MlflowException
    from mlflow.store.db.utils import create_sqlalchemy_engine

    engine = create_sqlalchemy_engine(uri)
    try:
        engine.connect().close()
    except Exception as error:
        raise MlflowException(str(getattr(error, "orig", error))) from error
    finally:
        engine.dispose()


@contextmanager
def _first_come(uri: str) -> Iterator[None]:
    """Let one process at a time open a database: two migrations of a fresh one clash."""
    lock = _migration_lock(uri)
    if lock is None:
        yield
        return
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        yield


def _migration_lock(uri: str) -> Path | None:
    """Return the lock file of a database, None for a server, which migrates by itself."""
    if (file := store_file(uri)) is not None:
        return Path(f"{file}.lock")
    if not is_database(uri):
        return None
    digest = hashlib.sha256(uri.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"convoy-{getpass.getuser()}-{digest}.migration.lock"


@contextmanager
def one_at_a_time(tracking: Tracking) -> Iterator[None]:
    """Let one process at a time change a registry, of those of one user and machine."""
    uri = tracking_uri(tracking)
    file = store_file(uri)
    if file is not None:
        lock = Path(f"{file}.aliases.lock")
    else:
        digest = hashlib.sha256(uri.encode()).hexdigest()[:16]
        lock = Path(tempfile.gettempdir()) / f"convoy-{getpass.getuser()}-{digest}.lock"
    with FileLock(lock):
        yield
