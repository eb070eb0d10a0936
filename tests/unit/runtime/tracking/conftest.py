"""A store, and a disk that is soon full, for the tests of tracking."""

import os
import shutil
import subprocess

import pytest

from pipeline.params import load_params
from pipeline.runtime.tracking.store import open_client
from tests.contract.imports import ROOT


@pytest.fixture(scope="module")
def store(empty_store, tmp_path_factory):
    """Return a SQLite store for all tests of a module."""
    file = shutil.copy(empty_store, tmp_path_factory.mktemp("store"))
    tracking = load_params(ROOT / "params.yaml").tracking
    tracking = tracking.model_copy(update={"uri": f"sqlite:///{file}", "experiment": "other"})
    open_client(tracking)
    return tracking


@pytest.fixture
def small_disk(tmp_path):
    """The folder of journals, on a file system of 64 KiB."""
    folder = tmp_path / "journal"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
