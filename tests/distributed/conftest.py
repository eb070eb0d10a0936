"""One local Ray cluster for all tests here, as training starts it."""

import pytest

from pipeline.params import load_params
from pipeline.runtime.ray.cluster import _set_environment
from tests.contract.imports import ROOT
from tests.packed import write_sets


@pytest.fixture(scope="session")
def params():
    return load_params(ROOT / "params.yaml")


@pytest.fixture(scope="session")
def sets(tmp_path_factory):
    """Folders of packed training and validation images."""
    return write_sets(tmp_path_factory.mktemp("sets"), 75, 31)


@pytest.fixture(scope="session")
def more(tmp_path_factory):
    """The same with more images, for trainings that last."""
    return write_sets(tmp_path_factory.mktemp("more"), 750, 31)


@pytest.fixture(scope="session")
def cluster():
    """A local cluster with more workers than cores, which the trainings of these tests join."""
    _set_environment(private=True)
    import ray

    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()
