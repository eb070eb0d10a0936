"""A tracking store for the tests of a module."""

import pytest

from pipeline.params import Tracking


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    """One store for all tests of a module: to make its database takes a second."""
    store = tmp_path_factory.mktemp("store")
    return Tracking(
        uri=f"sqlite:///{store}/mlflow.db",
        experiment="tests",
        system_metrics=False,
        checkpoints="best",
    )
