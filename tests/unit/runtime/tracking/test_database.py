import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.params import Tracking
from pipeline.runtime.tracking.store import open_client
from tests.waiting import wait_until

TRACKING = Tracking(
    uri="sqlite:///mlflow.db", experiment="birds", system_metrics=False, checkpoints="off"
)
OPENS = """
from pipeline.runtime.tracking.store import open_client
from tests.unit.runtime.tracking.test_database import TRACKING
open_client(TRACKING)
"""
ROOT = Path(__file__).parents[4]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def is_whole():
    """Whether the store takes a run and gives it back."""
    client = open_client(TRACKING)
    experiment = client.get_experiment_by_name("birds").experiment_id
    made = client.create_run(experiment).info.run_id
    return made in {run.info.run_id for run in client.search_runs([experiment])}


MIGRATES = """
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
SqlAlchemyStore("sqlite:///mlflow.db", "mlartifacts")
"""


def cut_short():
    """Leave what MLflow's own migrations leave when they are killed."""
    process = subprocess.Popen([sys.executable, "-c", MIGRATES], env=_environment())

    def half():
        assert process.poll() is None
        return Path("mlflow.db").exists() and _tables(Path("mlflow.db")) >= 12

    wait_until(half)
    process.kill()
    process.wait()


@pytest.mark.parametrize("migrations", [0, 10, 30])
def test_a_kill_while_the_database_is_made_leaves_none(here, migrations):
    process = subprocess.Popen([sys.executable, "-c", OPENS], cwd=here, env=_environment())

    def tables():
        assert process.poll() is None
        made = [path for path in here.glob(".mlflow.db.*") if not path.name.endswith("-journal")]
        return made and _tables(made[0]) >= migrations

    wait_until(tables)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not Path("mlflow.db").exists()
    assert is_whole()
    assert not list(here.glob(".mlflow.db.*"))


def test_a_database_that_was_never_finished_is_set_aside(here, capsys):
    Path("mlflow.db.unfinished-1").write_text("an earlier one")
    cut_short()
    assert is_whole()
    assert "mlflow.db was never finished and holds no run; it is mlflow.db.unfinished-2 now" in (
        capsys.readouterr().err
    )
    assert _tables(Path("mlflow.db.unfinished-2")) >= 12
    assert Path("mlflow.db.unfinished-1").read_text() == "an earlier one"


def test_one_that_holds_runs_stays(here):
    assert is_whole()
    shutil.copy("mlflow.db", "older.db")
    with closing(sqlite3.connect("older.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '0584bdc529eb'")
        database.commit()
    before = Path("older.db").read_bytes()
    with pytest.raises(PipelineError, match=r"older\.db fails: .*out-of-date database schema"):
        open_client(TRACKING.model_copy(update={"uri": "sqlite:///older.db"}))
    assert Path("older.db").read_bytes() == before
    assert not list(here.glob("*unfinished*"))


def test_a_file_that_is_no_database_is_an_error_and_stays(here):
    Path("mlflow.db").write_text("notes " * 1000)
    with pytest.raises(PipelineError, match=r"mlflow\.db fails: .*not a database"):
        open_client(TRACKING)
    assert Path("mlflow.db").read_text().startswith("notes")


def _tables(file):
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            return len(database.execute("SELECT 1 FROM sqlite_master").fetchall())
    except sqlite3.Error:  # as it is written just now
        return 0


def _environment():
    return os.environ | {"PYTHONPATH": str(ROOT)}
