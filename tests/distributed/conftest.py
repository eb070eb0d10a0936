"""One local Ray cluster for all tests here, as training starts it."""

import os

import pytest

from pipeline.params import load_params
from tests.contract.imports import ROOT
from tests.packed import BARS, bars, write_set


@pytest.fixture(scope="session")
def params():
    return load_params(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def sets(tmp_path_factory):
    """Folders of packed training and validation images."""
    folder = tmp_path_factory.mktemp("sets")
    write_set(folder / "train", *bars(75), BARS)
    write_set(folder / "val", *bars(31, seed=1), BARS)
    return folder / "train", folder / "val"


@pytest.fixture(scope="session")
def cluster():
    """A local cluster with more workers than cores, which the trainings of these tests join."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()
