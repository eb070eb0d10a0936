"""`convoy predict` with a cluster: a job server that runs the driver in this process."""

import json
import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from pipeline.cli import run
from pipeline.commands import jobs as jobs_command
from pipeline.commands import predict
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.errors import PipelineError
from pipeline.runtime.jobs import driver, inside, send
from pipeline.runtime.jobs.preflight import Cluster
from pipeline.runtime.storage.job_context import VARIABLE, current_job
from pipeline.vision.bundle.description import Description
from tests.bundles import save_bundle
from tests.job_server import ended


@pytest.fixture
def unseen(monkeypatch):
    """Paths that nodes lack."""
    paths = set()

    def check(_params, _server, _storage, paths_=(), **_):
        return Cluster([], {path: path not in paths for path in paths_})

    monkeypatch.setattr(send, "check_cluster", check)
    return paths


@pytest.fixture
def project(params, server, storage, tmp_path, monkeypatch, unseen):
    """A project with a bundle and the cluster's address, where three files are many."""
    monkeypatch.setattr(predict, "_WORTH_A_JOB", 3)
    monkeypatch.setattr(inside, "spread_over_cluster", lambda *_: nullcontext())
    monkeypatch.setattr(jobs_command, "JobServer", lambda _: server)
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("RAY_ADDRESS", server.address)
    written = yaml.safe_load(Path("params.yaml").read_text())
    written["resources"] |= {"storage": storage.uri, "max_failures": 1}
    Path("params.yaml").write_text(yaml.safe_dump(written))
    description = Description(
        "lenet5", {}, ("big cat", "dog"), Preprocessing(28, 28, 1, "pad", 0, 8), (0.4,), (0.3,)
    )
    save_bundle(tmp_path / "bundle", description, description.build().state_dict())
    server.fates = [lambda name: drive(server, name, tmp_path)] * 9
    return Path.cwd()


def drive(server, name, tmp_path):
    """Do as the job server does: run the driver in the folder of the package."""
    (submitted,) = (one for one in server.submitted if one["id"] == name)
    here, package = Path.cwd(), tmp_path / "package"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir()
    shutil.copy("params.yaml", package)
    os.environ[VARIABLE] = submitted["environment"][VARIABLE]
    os.chdir(package)
    try:
        driver.run(current_job())
    except PipelineError:
        return ended(name, "FAILED", 2)
    finally:
        os.chdir(here)
        del os.environ[VARIABLE]
    return ended(name, "SUCCEEDED", 0)


@pytest.fixture
def images(tmp_path):
    """A folder of five files, one of which is damaged."""
    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(5):
        pixels = np.random.default_rng(seed).integers(0, 256, (30, 40)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:200])
    return folder


def answers(capsys, images, *options):
    """Return exit code, lines of stdout, and those of stderr."""
    code = run(["predict", "--model", "../bundle", *options, str(images)])
    out, err = capsys.readouterr()
    return code, out.splitlines(), err.splitlines()


def alone(capsys, monkeypatch, *words):
    """Return the same of a run on this machine."""
    with monkeypatch.context() as patch:
        patch.delenv("RAY_ADDRESS")
        return answers(capsys, *words)


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_answers_are_those_of_a_run_here(project, server, images, capsys, monkeypatch, kind):
    code, out, err = answers(capsys, images, "--output", f"there.{kind}")
    assert len(server.submitted) == 1
    assert (code, out, err[-1:]) == alone(capsys, monkeypatch, images, "--output", f"here.{kind}")
    assert len(out) == 4
    assert Path(f"there.{kind}").read_bytes() == Path(f"here.{kind}").read_bytes()
    (submitted,) = server.submitted
    assert submitted["metadata"]["stage"] == "predict"
    assert err[0].startswith(f"predict: runs as the job {submitted['id']} at http://head:8265, ")
    # What the job was made of is gone; nothing of it came into the project.
    files = {path.name for path in project.iterdir()}
    assert files == {"data", "infra", "params.yaml", "dvc.yaml", ".convoy"} | {
        f"here.{kind}",
        f"there.{kind}",
    }


def test_the_same_command_takes_the_result_and_another_file_makes_another(
    project, server, images, capsys, monkeypatch
):
    _, out, err = answers(capsys, images)
    again = answers(capsys, images)
    assert len(server.submitted) == 1
    assert again[1] == out
    assert again[2] == [
        f"predict: taken from the job {server.submitted[0]['metadata']['identity'][:12]}, which"
        " has ended",
        err[-1],
    ]
    shutil.copy(images / "0.png", images / "1.png")
    changed = answers(capsys, images)[1]
    assert len(server.submitted) == 2
    assert changed == alone(capsys, monkeypatch, images)[1]
    assert changed[1].partition("\t")[2] == out[0].partition("\t")[2]
    description = Path("../bundle/bundle.json")
    description.write_text(description.read_text().replace("big cat", "lynx"))
    assert "lynx" in answers(capsys, images)[1][0]
    assert len(server.submitted) == 3


def test_a_driver_that_was_killed_is_another_attempt(project, server, images, capsys):
    server.fates.insert(0, lambda name: ended(name, "FAILED", -9))
    code, out, err = answers(capsys, images)
    assert (code, len(out), len(server.submitted)) == (0, 4, 2)
    assert "predict: attempt 1 of the job has failed: its driver was killed by signal 9" in err


def test_nothing_that_can_be_used_is_a_mistake_too(project, server, images, capsys, monkeypatch):
    for file in images.iterdir():
        file.write_text("x")
    code, out, err = answers(capsys, images, "--output", "there.csv")
    local = alone(capsys, monkeypatch, images, "--output", "here.csv")
    assert (code, out, err[-6:]) == local
    assert code == 2
    assert err[-1] == "convoy: none of 5 files is an image that can be classified"
    assert len(server.submitted) == 1
    assert Path("there.csv").read_bytes() == Path("here.csv").read_bytes()


def test_a_file_that_changes_meanwhile_stops_the_job_and_the_next_command_runs(
    project, server, images, capsys
):
    first = server.fates[0]

    def changed(name):
        os.utime(images / "2.png", ns=(0, 0))
        return first(name)

    server.fates.insert(0, changed)
    code, out, err = answers(capsys, images, "--output", "there.csv")
    assert (code, out) == (2, [])
    assert err[-1].startswith(f"convoy: {images}/2.png is not the file on ")
    assert not Path("there.csv").exists()
    assert answers(capsys, images)[0] == 0


def test_results_are_fetched_as_a_file_of_their_own(project, server, images, capsys):
    answers(capsys, images, "--output", "there.parquet")
    (job,) = server.states.values()
    metadata = server.submitted[0]["metadata"]
    server.states[job.id] = ended(job.id, "SUCCEEDED", 0, metadata=metadata)
    before = set(project.iterdir())
    assert run(["jobs", "fetch", "predict"]) == 0
    (fetched,) = set(project.iterdir()) - before
    assert capsys.readouterr().out == f"{job.id}: {fetched.name} (0.0 MiB)\n"
    assert pq.read_table(fetched).equals(pq.read_table("there.parquet"))


def test_what_runs_here_and_why(project, server, images, capsys, monkeypatch, unseen):
    local = alone(capsys, monkeypatch, images)
    unseen.add(str(images / "4.png"))
    code, out, err = answers(capsys, images)
    assert (code, out) == local[:2]
    assert err == [
        f"predict: runs here, since not all nodes of the cluster can read {images}/4.png",
        *local[2],
    ]
    unseen.clear()
    monkeypatch.chdir("..")
    shutil.copytree(project, "relative")
    monkeypatch.chdir("relative")
    err = answers(capsys, Path("../images"))[2]
    assert err[0] == (
        "predict: runs here, since ../images/0.png is no absolute path; name images by their whole"
        " path"
    )
    # Few files run here without a word, and so does a run without an address.
    monkeypatch.setattr(predict, "_WORTH_A_JOB", 6)
    assert answers(capsys, images) == local
    monkeypatch.setattr(predict, "_WORTH_A_JOB", 3)
    assert alone(capsys, monkeypatch, images) == local
    Path("params.yaml").unlink()
    assert alone(capsys, monkeypatch, images) == local
    code, out, err = answers(capsys, images)
    assert (code, out) == local[:2]
    assert err[0].startswith(
        "predict: runs here, since RAY_ADDRESS needs the resources.storage of params.yaml: cannot"
        " read params.yaml in "
    )
    assert err[1:] == local[2]
    assert server.submitted == []


def test_an_address_that_is_no_job_server_is_a_mistake(project, images, capsys, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    code, out, (line,) = answers(capsys, images)
    assert (code, out) == (2, [])
    assert line.startswith("convoy: RAY_ADDRESS is head:6379, expected the address of a cluster's")


def test_the_files_that_travel_hold_no_image(project, server, storage, images, capsys):
    answers(capsys, images)
    tree = json.loads(Path(storage.uri, storage.names("trees")[0]).read_bytes())
    assert [path for path, *_ in tree] == [
        "predict/files.parquet",
        "predict/model/bundle.json",
        "predict/model/model.safetensors",
    ]
