"""A project with data, a storage in a folder, a job, and a server that does what a test says."""

import shutil
from pathlib import Path

import pytest

from pipeline.params import load_params
from pipeline.runtime.jobs import follow, send
from pipeline.runtime.jobs.send import SentJob
from pipeline.runtime.jobs.spec import save_result
from pipeline.runtime.storage.shared import Storage
from pipeline.runtime.storage.trees import DigestCache, snapshot
from tests.contract.imports import ROOT
from tests.job_server import FakeServer, ended


@pytest.fixture
def server(monkeypatch):
    fake = FakeServer()
    monkeypatch.setattr(send, "JobServer", lambda _: fake)
    monkeypatch.setattr(send, "check_cluster", lambda *_, **__: None)
    monkeypatch.setattr(follow, "_POLL_S", 0.0)
    return fake


@pytest.fixture
def storage(tmp_path):
    return Storage(str(tmp_path / "storage"))


@pytest.fixture
def params(tmp_path, storage, monkeypatch):
    """Those of a project, in the current folder."""
    project = tmp_path / "project"
    (project / "infra/lock").mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml", "infra/lock/arrays.txt"):
        shutil.copy(ROOT / name, project / name)
    monkeypatch.chdir(project)
    monkeypatch.setenv("CONVOY_CACHE", str(tmp_path / "cache"))
    Path("data").mkdir()
    Path("data/index.parquet").write_bytes(b"index")
    params = load_params()
    resources = params.resources.model_copy(
        update={"address": FakeServer.address, "storage": storage.uri, "max_failures": 1}
    )
    return params.model_copy(update={"resources": resources})


@pytest.fixture
def written(tmp_path, storage):
    """Stores files as the outs of a job that has ended, or only uploads them."""

    def write(files, identity=None):
        there = tmp_path / "there"
        shutil.rmtree(there, ignore_errors=True)
        for path, content in files.items():
            (there / path).parent.mkdir(parents=True, exist_ok=True)
            (there / path).write_bytes(content)
        tops = {path.split("/")[0] for path in files}
        tree = snapshot(there, tops, DigestCache(there, tmp_path / "digests.json"))
        storage.put(tree.files, there, "outs")
        if identity:
            save_result(storage, identity, tree)
        return tree

    return write


@pytest.fixture
def job(params, server):
    """Makes the job of the stage split."""
    outs = ("data/split.parquet",)

    def make(params=params, about=None, carried=("data/index.parquet",)):
        return SentJob(params, "split", carried, outs, about=about)

    return make


@pytest.fixture
def succeeds(written):
    """Makes fates of jobs that end well, or so that it looks otherwise."""

    def fate(sent, status="SUCCEEDED", exit_code=0):
        def end(name):
            written({"data/split.parquet": b"split"}, sent.spec.identity)
            return ended(name, status, exit_code)

        return end

    return fate
