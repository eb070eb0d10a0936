"""A tracking server that can be killed, and short waits for it."""

import shutil

import pytest

from pipeline.params import load_params
from pipeline.runtime.tracking import uploader
from tests.contract.imports import ROOT
from tests.distributed.servers import Server
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(uploader, "_LONGEST_PAUSE_S", 1.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def tracking(tmp_path):
    return load_params(ROOT / "params.yaml").tracking.model_copy(
        update={"uri": f"sqlite:///{tmp_path}/mlflow.db", "experiment": "servers"}
    )


@pytest.fixture
def server(empty_store, tmp_path):
    shutil.copy(empty_store, tmp_path / "server.db")
    server = Server(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def warned(capsys):
    """Return a function that waits for the warning of a store that is away: all that was said."""
    said = []

    def read():
        said.append(capsys.readouterr().err)
        return "training goes on; records wait in" in "".join(said)

    def wait():
        wait_until(read, what="no warning")
        return "".join(said)

    return wait
