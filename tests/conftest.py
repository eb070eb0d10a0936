"""What all tests share."""

import os

import pytest
import torch

from pipeline import progress

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


def pytest_collection_modifyitems(items):
    """Under `-n 2` a file's tests share a process, and its fixtures; those with Ray share one."""
    for item in items:
        heavy = item.get_closest_marker("distributed")
        item.add_marker(pytest.mark.xdist_group("distributed" if heavy else item.path.name))
