import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import run
from pipeline.params import load_params
from pipeline.runtime.tracking.journal import Journal
from pipeline.runtime.tracking.store import lasting_address, open_client
from tests.contract.imports import ROOT


@pytest.fixture
def params():
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    return load_params()


def leave(store, name="train-1", folder=""):
    """Leave what a process that was killed leaves."""
    journal = Journal(Path(".convoy/journal") / f"{name}.jsonl")
    assert journal.acquire()
    start = {"act": "start", "store": store, "time_ms": 1, "folder": str(folder), "tags": {}}
    start |= {"experiment": "convoy", "name": "train", "params": {}, "datasets": {}}
    journal.append(start)
    values = {"loss": 1.0, "acc": 0.5}
    journal.append({"act": "metrics", "time_ms": 5000, "step": 1, "values": values})
    journal.release()
    return journal


def test_nothing_to_do_takes_no_mlflow(params):
    shown = (
        "import sys; from pipeline.cli import run; run(['sync']); print('mlflow' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == [
        "nothing is left to deliver to sqlite:///mlflow.db",
        "False",
    ]
    assert not Path("mlflow.db").exists()


def test_what_is_left_is_delivered_and_what_belongs_elsewhere_is_told(params, capsys, tmp_path):
    (tmp_path / "training").mkdir()
    here = lasting_address(params.tracking.uri)
    over, may_go_on = leave(here), leave(here, "train-2", tmp_path / "training")
    other = leave("http://host:5000", "train-3")
    assert run(["sync"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == (
        "4 records wait for another store: MLFLOW_TRACKING_URI=http://host:5000 convoy sync"
    )
    assert out[1].startswith("4 records of train-1 delivered to run ")
    assert out[1].endswith(", which has 2 of 2 values")
    assert out[2].startswith("4 records of train-2 delivered to run ")
    assert not over.path.exists()
    assert may_go_on.path.exists()
    assert other.path.exists()
    client = open_client(params.tracking)
    experiment = client.get_experiment_by_name("convoy").experiment_id
    ended = {
        r.info.run_id: (r.info.status, r.info.end_time) for r in client.search_runs([experiment])
    }
    assert list(ended.values()) == [("KILLED", 5000)] * 2
    assert run(["sync"]) == 0
    assert "nothing is left to deliver to sqlite:///mlflow.db" in capsys.readouterr().out


def test_a_training_that_runs_keeps_what_is_its_own(params, capsys):
    journal = leave(lasting_address(params.tracking.uri))
    assert journal.acquire()
    assert run(["sync"]) == 0
    said = capsys.readouterr().out
    assert "train-1 belongs to a training that runs, and delivers by itself" in said
    assert "nothing is left" in said
    journal.release()


def test_a_store_that_is_away(params, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9/")
    leave("http://127.0.0.1:9")
    assert run(["sync"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(
        "convoy: the MLflow store at http://127.0.0.1:9/ does not take what is left, 4 records in"
    )
    assert err.endswith("Connection refused; start the server and run convoy sync again\n")
    assert "secret" not in err


def test_an_address_that_mlflow_does_not_take(params, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "htp://host")
    assert run(["sync"]) == 2
    assert "did you mean http?" in capsys.readouterr().err
