import os
import socket
import subprocess
import sys

import pytest

from pipeline.errors import PipelineError
from pipeline.params import Tracking
from pipeline.runtime.tracking import (
    Untracked,
    flatten,
    open_client,
    shown,
    start_run,
    store_file,
    tracking_uri,
)


@pytest.fixture
def tracking(tmp_path):
    return Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="tests", system_metrics=False)


def test_the_environment_overrides_the_params(tracking, monkeypatch):
    assert tracking_uri(tracking) == tracking.uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert tracking_uri(tracking) == "http://127.0.0.1:1"


def test_store_file():
    assert str(store_file("sqlite:///a/b.db")) == "a/b.db"
    assert store_file("http://host") is None


def test_flatten():
    values = {"a": {"b": {"c": 1}, "d": {}}, "e": [1]}
    assert flatten(values) == {"a.b.c": 1, "a.d": {}, "e": [1]}


def test_a_run_holds_what_was_logged(tracking, tmp_path):
    run = start_run(
        tracking,
        name="train",
        params={"train": {"lr": 0.1}},
        tags={"convoy.stage": "train"},
        remember=tmp_path / "id",
    )
    for epoch in (1, 2):
        run.log({"loss": 1 / epoch, "lr": 0.1}, epoch)
    run.end("FINISHED", {"convoy.bundle": "d"})
    client = open_client(tracking)
    found = client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"train.lr": "0.1"}
    assert found.data.tags["convoy.bundle"] == "d"
    history = client.get_metric_history(run.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(1, 1.0), (2, 0.5)]


def test_a_training_that_goes_on_keeps_its_run(tracking, tmp_path):
    arguments = {"name": "train", "params": {}, "tags": {}, "remember": tmp_path / "id"}
    first = start_run(tracking, **arguments)
    first.log({"loss": 3.0, "lr": 0.1}, 1)
    first.end("KILLED")
    again = start_run(tracking, **arguments)
    assert again.run_id == first.run_id
    client = open_client(tracking)
    assert client.get_run(first.run_id).info.status == "RUNNING"
    for epoch in (1, 2, 2):  # told again from the start, and once more after a worker's death
        again.log({"loss": 3.0 / epoch, "lr": 0.1}, epoch)
    again.tag("convoy.compute", "fp32")
    history = client.get_metric_history(first.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(1, 3.0), (2, 1.5)]
    assert client.get_run(first.run_id).data.tags["convoy.compute"] == "fp32"
    again.end("FINISHED")
    assert client.get_run(first.run_id).info.status == "FINISHED"


def test_a_store_that_is_away_delays_records(tracking, tmp_path):
    from mlflow.exceptions import MlflowException

    run = start_run(tracking, name="t", params={}, tags={}, remember=tmp_path / "id")
    client = run._client
    deliver = client.log_batch

    def away(*args, **kwargs):
        raise MlflowException("away")

    client.log_batch = away
    run.log({"loss": 3.0}, 1)
    client.log_batch = deliver
    run.log({"loss": 2.0}, 2)  # too soon after a failure to try again
    assert client.get_metric_history(run.run_id, "loss") == []
    run.end("FINISHED")
    history = client.get_metric_history(run.run_id, "loss")
    assert [m.value for m in history] == [3.0, 2.0]


def test_a_run_that_the_store_has_forgotten_is_made_anew(tracking, tmp_path):
    (tmp_path / "id").write_text("0" * 32)
    run = start_run(tracking, name="t", params={}, tags={}, remember=tmp_path / "id")
    assert run.run_id != "0" * 32
    assert (tmp_path / "id").read_text() == run.run_id


def test_an_address_is_shown_without_user_and_password():
    assert shown("http://me:secret@host:5000/x") == "http://host:5000/x"
    assert shown("sqlite:///mlflow.db") == "sqlite:///mlflow.db"


def test_the_environment_stays_as_it_was(tracking):
    open_client(tracking)
    assert "MLFLOW_TRACKING_URI" not in os.environ


def _free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_a_training_goes_on_without_a_server(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    nobody = Tracking(
        uri=f"http://127.0.0.1:{_free_port()}", experiment="tests", system_metrics=False
    )
    run = start_run(nobody, name="t", params={}, tags={}, remember=tmp_path / "id")
    assert isinstance(run, Untracked)
    assert "warning: training goes on without tracking" in capsys.readouterr().err
    run.log({"loss": 1.0}, 1)
    run.end("FINISHED")
    with pytest.raises(PipelineError, match=r"MLflow store at http.* fails: .*start the server or"):
        open_client(nobody)


def test_an_address_that_mlflow_does_not_take(tmp_path):
    with pytest.raises(PipelineError, match="the MLflow store at nonsense://x fails"):
        open_client(Tracking(uri="nonsense://x", experiment="tests", system_metrics=False))


def test_processes_that_open_a_fresh_store_together(tmp_path):
    code = (
        "from pipeline.params import Tracking; from pipeline.runtime.tracking import open_client;"
        f"open_client(Tracking(uri='sqlite:///{tmp_path}/fresh.db', experiment='tests', system_metrics=False))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in processes:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
