"""What all tests share."""

import os

import pytest
import torch

# Small networks on few cores: threads would mostly wait for each other.
torch.set_num_threads(1)
# The tests have stores of their own.
os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Run every test in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
