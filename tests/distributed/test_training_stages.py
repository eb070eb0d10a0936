"""The stages train and finetune, end to end: packed images to bundles and MLflow runs."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import save_file

from pipeline.commands.doctor import _cluster
from pipeline.data.shards import ImageSet
from pipeline.errors import PipelineError
from pipeline.files import read_json
from pipeline.runtime.tracking import open_client
from pipeline.stages import finetune, train
from pipeline.vision.bundle import load_bundle
from pipeline.vision.digest import bundle_digest
from pipeline.vision.predict import probabilities
from tests.contract.imports import ROOT
from tests.packed import BARS, bars, write_set

pytestmark = pytest.mark.distributed


@pytest.fixture
def small(params):
    """Params for a training of seconds."""
    few = {"epochs": 12, "global_batch_size": 16}
    return params.model_copy(
        update={
            "train": params.train.model_copy(update=few),
            "finetune": params.finetune.model_copy(
                update={**few, "epochs": 2, "images": "data/packed/train"}
            ),
            "resources": params.resources.model_copy(update={"cpus_per_worker": 1}),
        }
    )


@pytest.fixture
def packed():
    write_set(Path("data/packed/train"), *bars(75), BARS)
    write_set(Path("data/packed/val"), *bars(31, seed=1), BARS)


def test_from_images_to_a_tuned_bundle_and_its_runs(cluster, small, packed, capsys):
    train.run(small)
    finetune.run(small)
    out = capsys.readouterr().out
    assert "train: 12 epochs, best " in out
    assert "finetune: from models/base: 10 tensors loaded" in out
    client = open_client(small.tracking)
    experiment = client.get_experiment_by_name("convoy").experiment_id
    runs = {run.data.tags["convoy.stage"]: run for run in client.search_runs([experiment])}
    for stage, name, epochs in (("train", "base", 12), ("finetune", "tuned", 2)):
        bundle = load_bundle(Path("models") / name)
        history = read_json(Path(f"reports/history/{name}.json"))
        assert [record["epoch"] for record in history] == list(range(1, epochs + 1))
        assert bundle.description.validation["loss"] == min(r["val_loss"] for r in history)
        # The bundle alone gives the figures that were measured in training.
        validation = ImageSet.open(Path("data/packed/val"))
        posteriors = probabilities(bundle, validation.batches(8))
        accuracy = (posteriors.argmax(1) == validation.labels).mean()
        assert accuracy == pytest.approx(bundle.description.validation["accuracy"])
        run = runs[stage]
        assert run.info.status == "FINISHED"
        assert run.data.tags["convoy.bundle"] == bundle_digest(Path("models") / name)
        assert run.data.params[f"{stage}.epochs"] == str(epochs)
        assert len(client.get_metric_history(run.info.run_id, "val_loss")) == epochs
    # The tuned model starts from the base model and keeps its normalisation.
    base, tuned = (load_bundle(Path("models") / name).description for name in ("base", "tuned"))
    assert (tuned.mean, tuned.std) == (base.mean, base.std)
    assert tuned.origin["weights"] == bundle_digest(Path("models/base"))
    assert not list(Path(".convoy/runs").iterdir())


def test_the_same_training_gives_the_same_bundle(cluster, small, packed):
    digests = []
    for _ in range(2):
        train.run(small)
        digests.append(bundle_digest(Path("models/base")))
    assert digests[0] == digests[1]


def test_a_training_that_fails_ends_its_run_and_keeps_the_old_bundle(cluster, small, packed):
    Path("models/base").mkdir(parents=True)
    Path("models/base/kept").write_text("")
    wild = small.train.optimizer.model_copy(update={"name": "sgd", "lr": 1e30})
    schedule = small.train.schedule.model_copy(update={"name": "constant", "warmup_epochs": 0.0})
    recipe = small.train.model_copy(update={"optimizer": wild, "schedule": schedule})
    with pytest.raises(PipelineError, match="the training loss is nan"):
        train.run(small.model_copy(update={"train": recipe}))
    client = open_client(small.tracking)
    (run,) = client.search_runs([client.get_experiment_by_name("convoy").experiment_id])
    assert run.info.status == "FAILED"
    assert Path("models/base/kept").exists()


def test_mistakes_are_found_before_a_cluster_starts(small, packed):
    for changes, message in (
        ({"weights": "none.safetensors"}, r"no weights at .*none\.safetensors"),
        ({"images": "data/balanced"}, r"no packed images in data/balanced"),
    ):
        recipe = small.train.model_copy(update=changes)
        with pytest.raises(PipelineError, match=message):
            train.run(small.model_copy(update={"train": recipe}))


def test_an_empty_validation_set(small):
    write_set(Path("data/packed/train"), *bars(9), BARS)
    images, _ = bars(9)
    write_set(Path("data/packed/val"), images[:0], [], BARS)
    with pytest.raises(PipelineError, match="the validation set has no images"):
        train.run(small)


def test_the_doctor_looks_at_the_cluster(cluster, small):
    assert _cluster(small) == "a local cluster starts, 1 workers of 1 CPU each fit"


def test_threads_are_ours_again():
    """The suite keeps torch at one thread; a stage must not have changed that."""
    assert torch.get_num_threads() == 1


def test_a_head_on_layers_that_would_stay_random(small, packed, tmp_path):
    partial = {"conv2.weight": torch.zeros(16, 6, 5, 5)}
    save_file(partial, tmp_path / "partial.safetensors")
    recipe = small.train.model_copy(
        update={"trainable": "head", "weights": str(tmp_path / "partial.safetensors")}
    )
    with pytest.raises(PipelineError, match=r"would freeze layers that the weights do not hold"):
        train.run(small.model_copy(update={"train": recipe}))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_training_says_so_and_is_gone_on_with(small, packed, number):
    text = (ROOT / "params.yaml").read_text().replace("epochs: 30", "epochs: 3000")
    Path("params.yaml").write_text(text.replace("patience: 10", "patience: 3000"))
    command = [sys.executable, "-m", "pipeline", "train"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not list(Path(".convoy/runs").glob("*/records.jsonl")):
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "convoy: stopped"
    assert "Traceback" not in err
    client = open_client(small.tracking)
    (run,) = client.search_runs([client.get_experiment_by_name("convoy").experiment_id])
    assert run.info.status == "KILLED"


def test_one_worker_listens_on_loopback_only(small, packed):
    """Nothing that a local training starts can be reached from another machine."""
    text = (ROOT / "params.yaml").read_text().replace("epochs: 30", "epochs: 400")
    Path("params.yaml").write_text(text.replace("patience: 10", "patience: 3000"))
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "train"], stderr=subprocess.DEVNULL
    )
    try:
        while not list(Path(".convoy/runs").glob("*/records.jsonl")):
            assert process.poll() is None
            time.sleep(0.1)
        ours = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        open_ports = {
            (one.name(), connection.laddr.ip)
            for one in ours
            for connection in one.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        assert open_ports
        assert {ip for _, ip in open_ports} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, open_ports
    finally:
        process.kill()
        process.wait()


def test_a_cluster_that_runs_already(packed, monkeypatch):
    """Two workers on a cluster of `ray start`, which asks for its token."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
    ray = str(Path(sys.executable).with_name("ray"))
    start = [ray, "start", "--head", "--block", f"--port={port}", "--num-cpus=2"]
    head = subprocess.Popen([*start, "--include-dashboard=false"], stdout=subprocess.DEVNULL)
    try:
        text = (ROOT / "params.yaml").read_text().replace("epochs: 30", "epochs: 2")
        text = text.replace("workers: 1", "workers: 2").replace(
            "cpus_per_worker: null", "cpus_per_worker: 1"
        )
        Path("params.yaml").write_text(text.replace("address: null", f"address: 127.0.0.1:{port}"))
        wait_for_port(port)
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", "train"],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert "train: 2 epochs" in done.stdout
        assert load_bundle(Path("models/base")).classes == BARS
    finally:
        # Asked nicely, it would wait half a minute for work to drain.
        for process in [*psutil.Process(head.pid).children(recursive=True), head]:
            process.kill()
        head.wait()


def wait_for_port(port):
    for _ in range(300):
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nobody listens on port {port}")
