"""`convoy submit` and `convoy jobs fetch` on a real cluster, with an MLflow server for it."""

import re
import shutil
import subprocess
import sys

import pytest
from mlflow import MlflowClient

from tests.contract.imports import ROOT
from tests.distributed.servers import Server
from tests.projects import change, contents, run

pytestmark = pytest.mark.distributed


@pytest.fixture
def there(cluster, s3, empty_store, tmp_path):
    """The environment of a user of the cluster; an MLflow server on SQLite is part of it."""
    shutil.copy(empty_store, tmp_path / "server.db")
    server = Server(tmp_path, proxied=True, host=cluster.outside)
    server.start()
    yield cluster.variables | s3.variables | {"MLFLOW_TRACKING_URI": server.address}
    server.kill()


@pytest.fixture
def project(tmp_path):
    """A repository with the code and nothing made yet."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("pipeline", "infra/lock", "models/compute"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc")
    change(folder, "train", epochs=2)
    change(folder, "resources", storage="s3://bucket/submitted", threads=1)
    change(folder, "tracking", system_metrics=True)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "begin")
    return folder


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True)


def dvc(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "dvc", *words],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def test_a_whole_repro_is_fetched_as_if_it_had_run_here(project, there, tmp_path):
    """As far as `train`, so that it takes half the time."""
    code, said = run(project, "submit", "--", "train", env=there)
    assert code == 0, said
    assert re.search(r"train: 2 epochs, best \d: .* -> models/base\n", said)
    assert "\n\n\n" not in said  # a bar's states leave no empty lines
    assert not (project / "data").exists()
    code, said = run(project, "submit", "--", "train", env=there)
    assert code == 0, said
    assert re.match(r"repro: taken from the job \w{12}, which has ended\n", said)

    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(project), str(clone))
    code, said = run(clone, "jobs", "fetch", env=there)
    assert code == 0, said
    assert "Data and pipelines are up to date" in dvc(clone, "status", "train", "--with-deps")
    assert (clone / "models" / "base" / "model.safetensors").exists()
    made = contents(clone / "data")
    shutil.rmtree(clone / "data")
    dvc(clone, "checkout", "train", "--with-deps")  # from DVC's cache
    in_git = {"root.txt", "placed.json"}
    assert contents(clone / "data") == {name: made[name] for name in made if name not in in_git}

    client = MlflowClient(there["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("convoy")
    (trained,) = client.search_runs([experiment.experiment_id])
    assert trained.info.status == "FINISHED"
    assert len(client.get_metric_history(trained.info.run_id, "val_loss")) == 2
    # Of the node that trained, by way of the driver on the head.
    assert "system/node_0/cpu_utilization_percentage" in trained.data.metrics
    (model,) = client.search_logged_models([experiment.experiment_id])
    assert model.source_run_id == trained.info.run_id
