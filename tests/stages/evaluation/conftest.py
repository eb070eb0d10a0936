"""The project in which all stages have run, made once for the tests here."""

import shutil

import pytest

from pipeline.stages import report
from tests.stages.evaluation.project import PARAMS, STAGES, write_project


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    """Return the folder of the project. No test changes what lies there."""
    root = tmp_path_factory.mktemp("workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_project()
        for stage in (*STAGES, report):
            stage.run(PARAMS)
    return root


@pytest.fixture
def inside(workspace, monkeypatch):
    """Work in the project, to read."""
    monkeypatch.chdir(workspace)


@pytest.fixture
def copied(workspace, tmp_path, monkeypatch):
    """Work in a copy of the project, to change it."""
    shutil.copytree(workspace, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
