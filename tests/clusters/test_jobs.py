"""Stages as jobs of a real cluster, with S3 for a storage, one by one as `dvc repro` runs them.

And the classification of files.
"""

import re
import shutil
import signal
import subprocess

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.vision.bundle.description import Description
from tests.bundles import save_bundle
from tests.projects import change, contents, convoy, make_project, run
from tests.waiting import wait_until

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A workspace with packed digits, as far as it is made on the user's machine."""
    return make_project(tmp_path_factory.mktemp("workspace"), epochs=25)


@pytest.fixture
def workspace(packed, tmp_path):
    """A copy of it."""
    return shutil.copytree(packed, tmp_path / "workspace")


@pytest.fixture
def there(cluster, s3):
    """The environment of a user of the cluster."""
    return cluster.variables | s3.variables


@pytest.fixture
def sent(workspace):
    """The workspace, with the cluster's storage."""
    change(workspace, "resources", storage="s3://bucket/convoy")
    return workspace


def test_a_data_stage_writes_the_same_bytes_is_run_once_and_again_where_it_is_damaged(
    sent, packed, there, s3
):
    code, said = run(packed, "balance")
    assert code == 0, said
    code, said = run(sent, "balance", env=there)
    assert code == 0, said
    assert re.search(r"balance: runs as the job convoy-balance-\w{12}-1 at http\S+, .* MiB", said)
    assert "INFO" not in said
    made = contents(packed / "data" / "balanced")
    assert contents(sent / "data" / "balanced") == made
    assert contents(sent / "reports") == contents(packed / "reports")

    shutil.rmtree(sent / "data" / "balanced")
    code, said = run(sent, "balance", env=there)
    assert code == 0, said
    assert re.search(r"balance: taken from the job \w{12}, which has ended", said)
    assert contents(sent / "data" / "balanced") == made

    shard = made["shard-00000.arrow"]
    blob = s3.data / "bucket" / "convoy" / "blobs" / shard[:2] / shard
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    code, said = run(sent, "balance", env=there)
    assert code == 2
    assert "balanced/shard-00000.arrow is missing or damaged in the storage s3://" in said
    code, said = run(sent, "balance", env=there)
    assert code == 0, said
    assert contents(sent / "data" / "balanced") == made


def test_images_in_a_bucket_are_indexed_and_packed_by_the_nodes(sent, packed, there, s3):
    """As jobs; the same bytes as from the same images in a folder."""
    shutil.copytree(packed / "data" / "sample", s3.data / "bucket" / "images")
    change(sent, "data", root="s3://bucket/images")
    made = {name: contents(packed / "data" / name) for name in ("packed",)} | {
        name: (packed / "data" / name).read_bytes() for name in ("index.parquet", "split.parquet")
    }
    shutil.rmtree(sent / "data")
    for stage in ("sample", "index", "split", "pack"):
        code, said = run(sent, stage, env=there)
        assert code == 0, said
        assert (f"{stage}: runs as the job convoy-{stage}-" in said) == (stage in ("index", "pack"))
    for name, content in made.items():
        path = sent / "data" / name
        assert (path.read_bytes() if path.is_file() else contents(path)) == content


def test_a_training_survives_its_driver_and_those_who_watch_it(sent, there, cluster, s3, tmp_path):
    """Two nodes train; the driver is killed; a second command joins and leaves."""
    alone = shutil.copytree(sent, tmp_path / "alone")
    change(alone, "resources", storage=".convoy/runs")
    change(sent, "resources", workers=2, cpus_per_worker=1)
    log = tmp_path / "log"
    with log.open("w") as file:
        first = convoy(sent, "train", env=there, stdout=file, stderr=file)

    def holds(true):
        wait_until(lambda: true() or first.poll() is not None, 300)
        assert first.poll() is None, log.read_text()

    holds(lambda: list((s3.data / "bucket" / "convoy" / "runs").glob("*/*/*/manifest.json")))
    job = re.search(r"convoy-train-\w{12}-", log.read_text()).group()
    cluster.kill_job_driver(f"{job}1")

    holds(lambda: f"runs as the job {job}2" in log.read_text())
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    second = convoy(sent, "train", env=there, **pipes)
    line = next(line for line in second.stdout if "job" in line)  # after some of the clock
    assert line.startswith(f"train: joins the job {job}2 at http")
    assert next(line for line in second.stdout if "2 workers" in line)  # from the first line on
    second.send_signal(signal.SIGINT)
    rest, _ = second.communicate(timeout=120)
    assert second.returncode == 2
    assert f"convoy: detached; the job {job}2 goes on: the same command joins it" in rest

    code, said = run(alone, "train")
    assert code == 0, said
    first.wait(timeout=300)
    said = log.read_text()
    assert first.returncode == 0, said
    assert "attempt 1 of the job has failed: its driver was killed by signal 9" in said
    assert re.search(r"train: goes on from epoch \d+, step \d+", said)
    mine, theirs = (
        load_file(one / "models" / "base" / "model.safetensors") for one in (sent, alone)
    )
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(tensor, theirs[name], atol=1e-4, rtol=0.0)
    # The records of its run wait here for the store of this machine.
    assert list((sent / ".convoy" / "journal").glob("train-*.jsonl"))


def test_many_files_are_classified_by_all_nodes_to_the_bytes_of_a_run_here(sent, there, tmp_path):
    preprocessing = Preprocessing(28, 28, 1, "pad", 0, 8)
    description = Description("lenet5", {}, tuple("0123456789"), preprocessing, (0.4,), (0.3,))
    save_bundle(sent / "model", description, description.build().state_dict())
    images = tmp_path / "images"
    images.mkdir()
    for seed in range(1100):
        pixels = np.random.default_rng(seed).integers(0, 256, (28, 28)).astype(np.uint8)
        Image.fromarray(pixels).save(images / f"{seed:04d}.png")
    for seed in (7, 600, 1099):
        path = images / f"{seed:04d}.png"
        path.write_bytes(path.read_bytes()[:200])

    def predict(name, env):
        code, said = run(sent, "predict", "--model", "model", "--output", name, images, env=env)
        assert code == 0, said
        return said, (sent / name).read_bytes()

    _, here = predict("here.csv", {"OMP_NUM_THREADS": "1"})
    said, made = predict("there.csv", there)
    assert re.search(r"predict: runs as the job convoy-predict-\w{12}-1 at http\S+, .* MiB", said)
    assert made == here
    said, taken = predict("again.csv", there)
    assert re.search(r"predict: taken from the job \w{12}, which has ended", said)
    assert "upload" not in said
    assert taken == here


def test_what_a_cluster_lacks_is_said_line_by_line_before_anything_is_uploaded(
    workspace, there, s3
):
    change(workspace, "resources", storage="s3://bucket/refused", workers=3)
    wrong = there | {"AWS_SECRET_ACCESS_KEY": "another"}
    code, said = run(workspace, "balance", env=wrong)
    assert code == 2
    assert "cluster: storage s3://bucket/refused refuses: " in said
    assert "cluster: resources asks for 3 CPUs (3 workers), the cluster has 2 CPUs" in said
    assert "2 checks failed; nothing was uploaded" in said
    assert not (s3.data / "bucket" / "refused").exists()

    code, said = run(workspace, "balance", env=there | {"RAY_AUTH_TOKEN": "a-wrong-token" * 4})
    assert code == 2
    assert "takes no one without its token" in said

    change(workspace, "resources", storage=".convoy/runs", workers=1)
    code, said = run(workspace, "balance", env=there)
    assert code == 2
    assert "cluster: resources.storage is .convoy/runs, a folder of this machine; set it" in said

    code, said = run(workspace, "balance", env=there | {"RAY_ADDRESS": "http://127.0.0.1:1"})
    assert code == 2
    assert "no job server answers at resources.address http://127.0.0.1:1" in said
