import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.cli import run
from pipeline.commands import jobs as command
from pipeline.errors import PipelineError
from pipeline.params import load_params
from pipeline.runtime.jobs import follow, send
from pipeline.runtime.jobs.spec import JobSpec, save_failure, save_result
from pipeline.runtime.storage.shared import Storage
from pipeline.runtime.storage.trees import DigestCache, Tree, snapshot
from tests.contract.imports import ROOT
from tests.job_server import FakeServer, ended


@pytest.fixture
def params(monkeypatch):
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, name)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return load_params()


@pytest.fixture
def server(params, monkeypatch, tmp_path):
    """Three jobs of Convoy, the latest first, and one of its checks."""
    fake = FakeServer()
    monkeypatch.setenv("RAY_ADDRESS", fake.address)
    monkeypatch.setattr(command, "JobServer", lambda _: fake)
    monkeypatch.setattr(follow, "_POLL_S", 0.0)

    def add(name, status, start_ms, end_ms, **more):
        metadata = {"identity": "abc", "storage": str(tmp_path / "storage"), "stage": "x"}
        facts = {"start_ms": start_ms, "end_ms": end_ms, "metadata": metadata}
        fake.states[name] = ended(name, status, **facts | more)

    add("convoy-repro-222222222222-1", "SUCCEEDED", 1_800_000_100_000, 1_800_000_163_000)
    add("convoy-preflight-1", "SUCCEEDED", 5, 6, metadata={"stage": "preflight"})
    add("convoy-train-111111111111-2", "RUNNING", 1_800_000_000_000, 0)
    add("convoy-train-111111111111-1", "FAILED", 0, 0, exit_code=2)
    return fake


def failed(capsys):
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_jobs_are_listed(server, capsys):
    assert run(["jobs"]) == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "convoy-repro-222222222222-1  SUCCEEDED  2027-01-15 08:01:40 UTC  63 s"
    assert second.startswith("convoy-train-111111111111-2  RUNNING    2027-01-15 08:00:00 UTC  ")
    assert third.strip() == "convoy-train-111111111111-1  FAILED     not begun"


def test_there_are_none(server, capsys):
    server.states.clear()
    assert run(["jobs"]) == 0
    assert capsys.readouterr().out == "no jobs\n"


@pytest.mark.parametrize("arguments", [[], ["--follow", "x"], ["stop", "x"], ["fetch"]])
def test_without_an_address(params, capsys, arguments):
    assert run(["jobs", *arguments]) == 2
    assert failed(capsys) == (
        "convoy: no cluster is named; set resources.address in params.yaml, or RAY_ADDRESS, to its"
        " job server, such as http://HOST:8265"
    )


@pytest.mark.parametrize("name", ["convoy-train", "train", "train-1111"])
def test_the_latest_one_by_a_name_is_stopped(server, capsys, name):
    assert run(["jobs", "stop", name]) == 0
    assert server.stopped == ["convoy-train-111111111111-2"]
    assert capsys.readouterr().out == (
        "convoy-train-111111111111-2 is stopped; the same command runs it again, a training from"
        " its last checkpoint\n"
    )


def test_one_that_has_ended_is_not(server, capsys):
    assert run(["jobs", "stop", "repro"]) == 2
    assert failed(capsys) == (
        "convoy: the job convoy-repro-222222222222-1 has ended already (SUCCEEDED)"
    )


def test_an_unknown_one(server, capsys):
    assert run(["jobs", "stop", "trian"]) == 2
    assert failed(capsys) == (
        "convoy: http://head:8265 knows no job trian*; latest: convoy-repro-222222222222-1,"
        " convoy-train-111111111111-2, convoy-train-111111111111-1"
    )
    server.states.clear()
    assert run(["jobs", "--follow", "train"]) == 2
    assert failed(capsys).endswith("knows no job train*; latest: it has none of Convoy")


def test_one_is_followed(server, capsys):
    server.log = "seen\n"
    assert run(["jobs", "--follow", "repro"]) == 0
    assert capsys.readouterr().out == (
        "seen\nconvoy-repro-222222222222-1 has ended; convoy jobs fetch"
        " convoy-repro-222222222222-1 brings its results here\n"
    )


def test_one_that_fails_says_why_once(server, capsys):
    server.log = "seen\nconvoy: split.val is 2\n"
    message = (
        "Job entrypoint command failed with exit code 2, last available logs (truncated to 20,000"
        f" chars):\n{'a long line ' * 50}\nseen\nconvoy: split.val is 2\n"
    )
    name = "convoy-train-111111111111-2"
    server.fates = [lambda job: ended(job, "FAILED", 2, message)]
    assert run(["jobs", "--follow", "train"]) == 2
    said = capsys.readouterr()
    assert said.out == "seen\n"
    assert said.err == f"convoy: the job {name} has ended as FAILED: split.val is 2\n"


@pytest.fixture
def results(tmp_path):
    """Outs of the job, in the storage."""
    there = tmp_path / "there"
    (there / "models/final").mkdir(parents=True)
    (there / "models/final/weights").write_bytes(b"weights")
    (there / "dvc.lock").write_text("lock")
    tree = snapshot(there, ["models", "dvc.lock"], DigestCache(there, tmp_path / "digests.json"))
    storage = Storage(str(tmp_path / "storage"))
    storage.put(tree.files, there, "outs")
    JobSpec("abc", "repro", "0" * 64, ("models/final", "dvc.lock")).save(storage)
    return storage, tree


def test_results_are_fetched(server, results, capsys):
    storage, tree = results
    assert run(["jobs", "fetch"]) == 2
    assert failed(capsys).startswith("convoy: the job repro abc has left no results: it still runs")
    save_result(storage, "abc", tree)
    assert run(["jobs", "fetch"]) == 0
    assert capsys.readouterr().out == "convoy-repro-222222222222-1: 2 files (0.0 MiB)\n"
    assert Path("models/final/weights").read_bytes() == b"weights"
    assert Path("dvc.lock").read_text() == "lock"


@pytest.mark.parametrize("name", ["convoy-repro-0123456789ab-1", "repro-0123456789ab"])
def test_results_of_one_that_the_job_server_has_forgotten(server, results, params, capsys, name):
    storage, tree = results
    update = {"storage": storage.uri, "address": server.address}
    resources = params.resources.model_copy(update=update)
    params = params.model_copy(update={"resources": resources})
    server.states.clear()
    with pytest.raises(PipelineError, match="knows no job"):
        command.run_fetch(params, name)
    identity = "0123456789ab" + "c" * 52
    JobSpec(identity, "repro", "0" * 64, ("models/final", "dvc.lock")).save(storage)
    save_result(storage, identity, tree)
    command.run_fetch(params, name)
    assert capsys.readouterr().out == f"{name}: 2 files (0.0 MiB)\n"
    assert Path("models/final/weights").read_bytes() == b"weights"


def test_those_of_a_failed_one_too(server, results, capsys):
    save_failure(results[0], "abc", 1, "split.val is 2", results[1])
    assert run(["jobs", "fetch", "repro"]) == 0
    assert capsys.readouterr().out == (
        "convoy-repro-222222222222-1: 2 files (0.0 MiB) of a job that has failed\n"
    )


def git(*arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def committed(params, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    Path("old name.txt").write_text("text\n" * 9)
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "all")


def test_submit_without_an_address(params, capsys):
    assert run(["submit"]) == 2
    assert failed(capsys) == (
        "convoy: convoy submit needs a cluster; set resources.address in params.yaml, or"
        " RAY_ADDRESS, to its job server, such as http://HOST:8265"
    )


@pytest.mark.parametrize(
    "uri", ["sqlite:///mlflow.db", "http://localhost:5000", "http://127.0.0.2:1"]
)
def test_submit_with_a_store_of_this_machine(committed, capsys, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert run(["submit"]) == 2
    assert failed(capsys) == (
        f"convoy: the MLflow store at {uri} is on this machine, and the cluster is to register the"
        " model there; set MLFLOW_TRACKING_URI to a server that both reach, or run dvc repro, which"
        " keeps DVC and MLflow here"
    )


def test_submit_of_what_is_not_committed(committed, capsys):
    git("mv", "old name.txt", "new name.txt")
    Path("grün.txt").write_text("x")
    Path("dvc.lock").write_text("x")
    assert run(["submit"]) == 2
    line = failed(capsys)
    assert line.startswith("convoy: not committed: ")
    assert line.endswith("; commit, or take them along by --with-changes")
    named = line.removeprefix("convoy: not committed: ").partition(";")[0].split(", ")
    assert sorted(named) == ["grün.txt", "new name.txt", "old name.txt"]


def test_submit_of_a_name_that_is_no_utf8(committed, capsys):
    Path(os.fsdecode(b"\xff.txt")).write_text("x")
    assert run(["submit"]) == 2
    assert failed(capsys).startswith(r"convoy: not committed: \xff.txt; commit")


def test_submit_where_there_is_no_repository(committed, capsys):
    shutil.rmtree(".git")
    assert run(["submit"]) == 2
    assert "is no git repository (fatal: " in failed(capsys)


def test_submit_of_an_unknown_stage(committed, capsys):
    assert run(["submit", "trian"]) == 2
    assert failed(capsys) == "convoy: dvc.yaml has no stage trian, did you mean train?"


def test_submit_of_images_that_lie_elsewhere(committed, capsys):
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("root: data/sample", "root: ../images"))
    assert run(["submit", "--with-changes"]) == 2
    assert failed(capsys) == (
        "convoy: data.root is ../images, which lies outside of the folder that is submitted; set it"
        " to a folder that all nodes see, by its whole path, or to s3://BUCKET/FOLDER"
    )


def test_submit_detached_joins_or_takes_what_has_ended(committed, tmp_path, monkeypatch, capsys):
    fake = FakeServer()
    monkeypatch.setattr(send, "JobServer", lambda _: fake)
    monkeypatch.setattr(send, "check_cluster", lambda *_, **__: None)
    params = Path("params.yaml")
    storage = Storage(str(tmp_path / "storage"))
    params.write_text(
        params.read_text().replace("storage: .convoy/runs", f"storage: {storage.uri}")
    )
    submit = ("submit", "--detach", "--with-changes")
    for _ in range(2):
        assert run([*submit, "split"]) == 0
    (submitted,) = fake.submitted
    said = capsys.readouterr().out.splitlines()
    shows = f"convoy jobs --follow {submitted['id']} shows it"
    brings = "convoy jobs fetch brings its results here, when it has ended"
    assert [line for line in said if not line.startswith("repro: ")] == [shows, brings] * 2
    identity = submitted["metadata"]["identity"]
    assert JobSpec.load(storage, identity).targets == ("split",)
    save_result(storage, identity, Tree(()))
    fake.states[submitted["id"]] = ended(submitted["id"], "SUCCEEDED", 0)
    assert run([*submit, "split"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == (
        f"repro: taken from the job {identity[:12]}, which has ended"
    )
    assert len(fake.submitted) == 1
    # What dvc.yaml says is part of what is asked for.
    Path("dvc.yaml").write_text(Path("dvc.yaml").read_text() + "# changed\n")
    assert run([*submit, "split"]) == 0
    assert len(fake.submitted) == 2


def test_job_is_no_command_of_people(params, monkeypatch, capsys):
    monkeypatch.delenv("CONVOY_JOB", raising=False)
    assert run(["job"]) == 2
    assert (
        failed(capsys)
        == "convoy: convoy job is what a cluster runs; type dvc repro or convoy submit"
    )
