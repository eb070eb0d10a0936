"""What all tests share."""

import pytest
import torch

# Small networks on few cores: threads would mostly wait for each other.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Run every test in an empty folder, and without an address of a tracking server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
