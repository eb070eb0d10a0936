"""What all tests share."""

import os

import pytest
import torch

from pipeline import progress
from pipeline.params import Tracking
from pipeline.runtime.tracking.store import connect

# Small networks on few cores: threads would mostly wait for each other.
torch.set_num_threads(1)
# The tests have stores of their own.
os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Run every test in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")


@pytest.fixture(autouse=True)
def _no_lines_by_the_clock(monkeypatch):
    """Show no progress, which only a slow machine has: many tests know each line of stderr."""
    for name in ("_FIRST_S", "_LINE_S", "_MOST_S"):
        monkeypatch.setattr(progress, name, 1e6)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """Return the file of a store without runs, to copy: MLflow takes a second to make one."""
    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    uri = f"sqlite:///{file}"
    connect(Tracking(uri=uri, experiment="none", system_metrics=False, checkpoints="off"))
    return file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Under `-n 2`, run in one process what shares a file or a project, or starts Ray."""
    from xdist.scheduler import LoadScopeScheduling

    groups = {
        "tests/clusters/": "Ray",
        "tests/distributed/": "Ray",
        "tests/contract/test_dvc_": "DVC",
        "tests/stages/evaluation/": "evaluation",
    }

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return next((groups[start] for start in groups if file.startswith(start)), file)

    return Scheduling(config, log)
