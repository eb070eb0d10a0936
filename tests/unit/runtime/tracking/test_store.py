import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.files import repository
from pipeline.params import load_params
from pipeline.runtime.tracking.store import (
    check_address,
    lasting_address,
    open_client,
    reached_from_elsewhere,
    shown,
    store_file,
    tracking_uri,
    without_secrets,
)
from tests.contract.imports import ROOT


def tracking_at(uri):
    tracking = load_params(ROOT / "params.yaml").tracking
    return tracking.model_copy(update={"uri": uri, "experiment": "tests"})


@pytest.fixture
def tracking(tmp_path):
    return tracking_at(f"sqlite:///{tmp_path}/mlflow.db")


def test_the_environment_overrides_the_params(tracking, monkeypatch):
    assert tracking_uri(tracking) == tracking.uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert tracking_uri(tracking) == "http://127.0.0.1:1"


def test_store_file():
    assert str(store_file("sqlite:///a/b.db")) == "a/b.db"
    assert store_file("http://host") is None


def test_an_address_is_shown_without_user_password_and_options():
    assert shown("http://me:secret@host:5000/x") == "http://host:5000/x"
    assert shown("me:secret@host:5000") == "host:5000"
    assert shown("postgresql://me:a@b@host/db?password=secret") == "postgresql://host/db"
    assert shown("sqlite:///mlflow.db") == "sqlite:///mlflow.db"


def test_what_libraries_say_is_shown_without_user_and_password():
    uri = "postgresql://me:se%20cret@host/db"
    said = f'cannot reach {uri}/ or http://me:x@host/; "me" and se cret are wrong, meanwhile'
    assert without_secrets(said, uri) == (
        'cannot reach postgresql://host/db/ or http://host/; "..." and ... are wrong, meanwhile'
    )


def test_an_address_that_lasts_means_the_same_store_in_any_folder(tmp_path):
    assert lasting_address("sqlite:///a.db") == f"sqlite:///{tmp_path}/a.db"
    assert lasting_address("http://me:secret@host:5000/") == "http://host:5000"


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:///mlflow.db",
        "http://localhost:5000",
        "https://me:secret@host/path",
        "HTTP://HOST",
        "postgresql+json://host/db",  # a driver is a package; this one is Python's own
        "databricks",
        "databricks://profile",
    ],
)
def test_addresses_that_mlflow_takes(uri):
    check_address(uri)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("htp://me:secret@host", r"address htp://host begins with htp, did you mean http\?"),
        ("nonsense://x", "begins with nonsense; need http, https, sqlite, .* or databricks"),
        ("http://", "lacks a host or a port"),
        ("http://host:99999", "a port that is no number from 1 to 65535"),
        ("http://host:five", "a port that is no number"),
        ("sqlite://", "names no file, need sqlite:///FILE"),
        ("sqlite:a.db", "names no file"),
        ("mlruns", "mlruns is a folder, in which a record may be kept twice; need a database;"),
        ("file:///tmp/mlruns", "file:///tmp/mlruns is a folder, .* such as sqlite:///mlflow.db"),
        ("postgresql+nowhere://host/db", "needs the Python package nowhere, which is not"),
        ("http://[::1", "is none"),
    ],
)
def test_addresses_that_mlflow_does_not_take(uri, message):
    with pytest.raises(PipelineError, match=message) as raised:
        check_address(uri)
    assert "secret" not in str(raised.value)
    assert "MLFLOW_TRACKING_URI overrides it" in str(raised.value)


def test_things_last_here_unless_dvc_works_in_a_copy(tmp_path, monkeypatch):
    home, copy = tmp_path / "home", tmp_path / "home/.dvc/tmp/exps/one"
    for folder in (home, copy):
        (folder / ".dvc").mkdir(parents=True, exist_ok=True)
        (folder / "project").mkdir()
    monkeypatch.setenv("DVC_ROOT", str(home))
    monkeypatch.chdir(copy / "project")
    assert repository() == Path()  # dvc repro sets DVC_ROOT too
    monkeypatch.setenv("DVC_EXP_NAME", "one")
    assert repository() == home / "project"
    assert tracking_uri(tracking_at("sqlite:///a.db")) == f"sqlite:///{home}/project/a.db"
    assert tracking_uri(tracking_at("sqlite:////a.db")) == "sqlite:////a.db"
    assert tracking_uri(tracking_at("http://host")) == "http://host"
    monkeypatch.chdir(home / "project")
    assert repository() == Path()
    assert tracking_uri(tracking_at("sqlite:///a.db")) == "sqlite:///a.db"


def test_to_connect_changes_no_state_of_the_process(tracking, monkeypatch):
    """Not even for a moment: other threads and their children would see it."""
    import mlflow

    open_client(tracking)  # the first one of a process sets what MLflow reads from the environment
    changed = []
    monkeypatch.setattr(mlflow, "set_tracking_uri", changed.append)
    before = dict(os.environ)
    client = open_client(tracking)
    assert client.tracking_uri == tracking.uri
    assert (changed, {**os.environ}) == ([], before)


def test_an_experiment_that_a_person_deleted_is_named(tracking):
    client = open_client(tracking)
    client.delete_experiment(client.get_experiment_by_name("tests").experiment_id)
    with pytest.raises(
        PipelineError, match=r"the experiment tests was deleted .* restore it there"
    ):
        open_client(tracking)


def test_a_server_that_is_not_there(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    nobody = tracking_at(f"http://me:secret@127.0.0.1:{port}/")
    with pytest.raises(PipelineError, match=r"MLflow store at http.* fails: .*start the") as raised:
        open_client(nobody)
    assert "secret" not in str(raised.value)


def test_a_database_that_is_not_there(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(PipelineError, match="folder fails: unable to open database file"):
        open_client(tracking_at(f"sqlite:///{tmp_path}/folder"))


def test_processes_that_open_a_fresh_store_together(tracking):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from tests.unit.runtime.tracking.test_store import tracking_at;"
        "from pipeline.runtime.tracking.store import open_client;"
        "open_client(tracking_at(sys.argv[2]))"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(ROOT), tracking.uri], stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err


@pytest.mark.parametrize(
    ("uri", "reached"),
    [
        ("sqlite:///mlflow.db", False),
        ("sqlite:////shared/mlflow.db", False),
        ("http://localhost:5000", False),
        ("http://127.0.0.1:5000", False),
        ("http://127.1.2.3", False),
        ("http://[::1]:5000", False),
        ("http://LOCALHOST:5000", False),
        ("http://0.0.0.0:5000", False),
        ("http://mlflow:5000", True),
        ("https://user:secret@mlflow.example/path", True),
        ("postgresql://user:secret@db:5432/mlflow", True),
        ("postgresql://user:secret@localhost/mlflow", False),
        ("http://10.0.0.5:5000", True),
    ],
)
def test_which_stores_other_machines_reach(uri, reached):
    assert reached_from_elsewhere(uri) == reached
