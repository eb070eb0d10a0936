import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.remote import AwayError
from pipeline.runtime.jobs import driver
from pipeline.runtime.jobs.spec import (
    JobSpec,
    begin_attempt,
    load_failure,
    load_result,
)
from pipeline.runtime.storage.job_context import VARIABLE, JobContext
from pipeline.runtime.storage.node_cache import DamagedError
from pipeline.runtime.storage.trees import DigestCache, snapshot
from pipeline.runtime.storage.workspace import save_tree
from tests.contract.imports import ROOT

LOCK = "schema: '2.0'  # of the sender\n"
OUTS = ("data/split.parquet", "reports/pictures")


@pytest.fixture
def job(params, storage, monkeypatch):
    """A job of this project, which is begun; the current folder is the package."""
    Path("dvc.lock").write_text(LOCK)
    tree = snapshot(Path(), ["data", "dvc.lock"], DigestCache(Path(), Path(".convoy/digests.json")))
    storage.put(tree.files, Path(), "upload")
    save_tree(storage, tree)
    JobSpec("abc", "split", tree.digest, OUTS).save(storage)
    begin_attempt(storage, "abc", 1)
    context = JobContext("abc", 1, storage.uri, None, {}, {})
    monkeypatch.setenv(*next(iter(context.environment().items())))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    Path("data/index.parquet").unlink()
    Path("dvc.lock").unlink()
    return context


@pytest.fixture
def stage(monkeypatch):
    """Sets what the stage does."""
    return lambda act: monkeypatch.setattr(driver, "run_stage", lambda *_: act())


def write():
    assert Path("data/index.parquet").read_bytes() == b"index"
    Path("data/split.parquet").write_bytes(b"split")
    Path("reports/pictures").mkdir(parents=True)


def workspaces():
    return list((Path(os.environ["CONVOY_CACHE"]) / "work").glob("*/"))


def test_what_the_stage_wrote_is_stored(job, storage, stage):
    package = Path.cwd()
    stage(write)
    driver.run(job)
    result = load_result(storage, "abc")
    assert [file.path for file in result.files] == ["data/split.parquet"]
    assert result.empty == ("reports/pictures",)
    assert storage.has(result.files) == {file.sha256 for file in result.files}
    assert Path.cwd() == package
    assert not Path("data/split.parquet").exists()  # it was made elsewhere
    assert workspaces() == []


def test_the_senders_lock_file_can_be_written_in_place(job, stage):
    """As DVC does; the cache holds another one."""

    def write_lock():
        assert Path("dvc.lock").read_text() == LOCK
        assert Path("dvc.lock").stat().st_nlink == 1
        assert Path("dvc.lock").stat().st_mode & 0o200
        assert Path("data/index.parquet").stat().st_nlink == 2
        write()

    stage(write_lock)
    driver.run(job)


def test_a_mistake_is_stored_with_what_was_written(job, storage, stage):
    def fail():
        write()
        raise PipelineError("split.val is 2")

    stage(fail)
    with pytest.raises(PipelineError, match=r"split\.val is 2"):
        driver.run(job)
    message, written = load_failure(storage, "abc", 1)
    assert message == "split.val is 2"
    assert [file.path for file in written.files] == ["data/split.parquet"]
    assert load_result(storage, "abc") is None


@pytest.mark.parametrize("error", [DamagedError("data/x is damaged"), AwayError("away")])
def test_what_passes_is_left_to_another_attempt(job, storage, stage, error, capsys):
    def fail():
        raise error

    stage(fail)
    with pytest.raises(SystemExit) as ended:
        driver.run(job)
    assert ended.value.code == 75
    assert capsys.readouterr().err == f"convoy: {error}\n"
    assert load_failure(storage, "abc", 1) is None


def test_damaged_inputs_are_left_to_another_attempt(job, storage, stage):
    (blob,) = (p for p in Path(storage.uri, "blobs").glob("*/*") if p.read_bytes() == b"index")
    blob.write_bytes(b"INDEX")
    stage(write)
    with pytest.raises(SystemExit):
        driver.run(job)
    assert not blob.exists()


def test_an_attempt_that_was_replaced_does_not_begin(job, storage, stage):
    begin_attempt(storage, "abc", 2)
    stage(lambda: pytest.fail("begun"))
    with pytest.raises(PipelineError, match="attempt 1 of this job was replaced by attempt 2"):
        driver.run(job)


def test_and_does_not_end(job, storage, stage):
    def replaced():
        write()
        begin_attempt(storage, "abc", 2)

    stage(replaced)
    with pytest.raises(PipelineError, match="attempt 1 of this job was replaced by attempt 2"):
        driver.run(job)
    assert load_result(storage, "abc") is None
    assert load_failure(storage, "abc", 1) is None


def test_records_that_wait_go_back_and_what_outlived_attempts_is_removed(job, storage, stage):
    def record():
        write()
        (job.state / "journal").mkdir(parents=True)
        (job.state / "journal/train.jsonl").write_text("{}")
        (job.state / "runs/train-1").mkdir(parents=True)
        storage.write("runs/train-1/000001-x/begun", b"")
        storage.write("runs/other-1/000001-x/begun", b"")

    stage(record)
    driver.run(job)
    assert ".convoy/journal/train.jsonl" in {f.path for f in load_result(storage, "abc").files}
    assert not job.state.exists()
    assert storage.names("runs") == ["runs/other-1/000001-x/begun"]


def test_an_attempt_before_that_was_killed_leaves_its_workspace(job, storage, stage, monkeypatch):
    kept = []

    def killed():
        Path("half").write_text("half")
        kept.append(Path.cwd())

    stage(killed)
    with monkeypatch.context() as patch:
        patch.setattr(driver.shutil, "rmtree", lambda *_, **__: None)  # as where it is killed
        driver.run(job)
    storage.remove("jobs/abc/result.json")
    stage(lambda: write() or Path("half").unlink())
    driver.run(job)
    assert workspaces() == []


def test_a_job_that_is_not_there(params, storage):
    with pytest.raises(PipelineError, match=f"storage {storage.uri} holds no job abc"):
        driver.run(JobContext("abc", 1, storage.uri, None, {}, {}))


def test_why_a_stage_of_a_whole_repro_failed_is_what_its_command_said(job, storage, capfd):
    Path("pipeline").symlink_to(ROOT / "pipeline")  # the code that has travelled
    stages = {"split": {"cmd": "convoy split", "deps": ["data/index.parquet"]}}
    Path("dvc.yaml").write_text(json.dumps({"stages": stages}))
    spec = JobSpec.load(storage, "abc")
    replace(spec, stage="repro", outs=("dvc.lock",)).save(storage)
    with pytest.raises(PipelineError, match=r"dvc repro has failed on the cluster: data/index\."):
        driver.run(job)
    message, _ = load_failure(storage, "abc", 1)
    assert f"convoy: {message.partition(': ')[2]}\n" in capfd.readouterr().err


def test_the_context_is_the_one_of_the_environment(job):
    assert json.loads(os.environ[VARIABLE])["identity"] == "abc"
