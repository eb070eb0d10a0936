from pathlib import Path

import pytest


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return project
