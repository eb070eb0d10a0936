"""A tracking store for the tests of a module."""

import shutil

import pytest

from pipeline.params import Tracking


@pytest.fixture(scope="module")
def tracking(empty_store, tmp_path_factory):
    """One store for all tests of a module."""
    store = shutil.copy(empty_store, tmp_path_factory.mktemp("store"))
    return Tracking(
        uri=f"sqlite:///{store}",
        experiment="tests",
        system_metrics=False,
        checkpoints="best",
    )
