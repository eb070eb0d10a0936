"""A workspace with a few files, a storage in a folder, and a cache of a node."""

import hashlib
from pathlib import Path

import pytest

from pipeline.runtime.storage.node_cache import NodeCache
from pipeline.runtime.storage.shared import Storage
from pipeline.runtime.storage.trees import DigestCache, File, snapshot

CONTENTS = {"data/a.bin": b"first", "data/deep/b.bin": b"second", "grüße an.txt": b"first"}


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    folder = tmp_path / "workspace"
    for path, content in CONTENTS.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path / "storage"))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVOY_CACHE", str(tmp_path / "cache"))
    return NodeCache()


@pytest.fixture
def tree(workspace):
    return snapshot(workspace, ["data", "grüße an.txt"], DigestCache(workspace, Path("digests")))


@pytest.fixture
def first():
    """The file of which the workspace has two."""
    return File("data/a.bin", hashlib.sha256(b"first").hexdigest(), 5)
