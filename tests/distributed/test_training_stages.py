"""The stages train and finetune, end to end: packed images to bundles and MLflow runs."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import save_file

from pipeline.commands import sync
from pipeline.commands.doctor import _cluster
from pipeline.data.shards.shards import ImageSet
from pipeline.errors import PipelineError
from pipeline.files import read_json
from pipeline.params.choices.training import ConstantRate, Sgd
from pipeline.runtime.registry.versions import find_bundle
from pipeline.runtime.session.checkpoint_store import newest_checkpoint
from pipeline.runtime.tracking.journal import unsettled
from pipeline.runtime.tracking.store import open_client
from pipeline.stages import finetune, train
from pipeline.vision.bundle.digest import bundle_digest, weights_digest
from pipeline.vision.inference.bundle import load_bundle
from pipeline.vision.inference.predict import probabilities
from tests.contract.imports import ROOT
from tests.packed import BARS, bars, write_set, write_tuned
from tests.waiting import wait_until

pytestmark = pytest.mark.distributed

ARITHMETIC = {"precision": "fp32", "memory_format": "channels_last"}


@pytest.fixture
def small(params):
    """Params for a training of seconds."""
    few = {"epochs": 12, "global_batch_size": 16, "precision": "fp32"}
    return params.model_copy(
        update={
            "train": params.train.model_copy(update=few),
            "finetune": params.finetune.model_copy(
                update={**few, "epochs": 2, "images": "data/packed/train"}
            ),
            "resources": params.resources.model_copy(update={"cpus_per_worker": 1, "threads": 1}),
        }
    )


@pytest.fixture
def packed(empty_store):
    shutil.copy(empty_store, "mlflow.db")
    write_set(Path("data/packed/train"), *bars(75), BARS)
    write_set(Path("data/packed/val"), *bars(31, seed=1), BARS)
    write_tuned()


def test_from_images_to_a_tuned_bundle_and_its_runs(cluster, small, packed, capsys):
    train.run(small)
    finetune.run(small)
    out, err = capsys.readouterr()
    assert "train: 12 epochs, best " in out
    assert "finetune: from models/base: 10 tensors loaded" in err
    client = open_client(small.tracking)
    experiment = client.get_experiment_by_name("convoy").experiment_id
    runs = {run.data.tags["convoy.stage"]: run for run in client.search_runs([experiment])}
    for stage, name, epochs in (("train", "base", 12), ("finetune", "tuned", 2)):
        bundle = load_bundle(Path("models") / name)
        history = read_json(Path(f"reports/history/{name}.json"))
        assert [record["epoch"] for record in history] == list(range(1, epochs + 1))
        (kept,) = (record for record in history if record["kept"])
        assert bundle.description.validation["loss"] == kept["val_loss"]
        best = max(history, key=lambda record: (record["val_macro_f1"], -record["val_loss"]))
        assert kept["epoch"] == best["epoch"]
        # The bundle alone gives the figures that were measured in training.
        validation = ImageSet.open(Path("data/packed/val"))
        assert asdict(bundle.description.compute) == ARITHMETIC
        assert {key: kept[key] for key in ARITHMETIC} == ARITHMETIC
        posteriors = probabilities(bundle, validation.batches(8))
        accuracy = (posteriors.argmax(1) == validation.labels).mean()
        assert accuracy == pytest.approx(bundle.description.validation["accuracy"])
        run = runs[stage]
        assert run.info.status == "FINISHED"
        assert run.data.tags["convoy.bundle"] == bundle_digest(Path("models") / name)
        assert run.data.tags["convoy.weights"] == weights_digest(Path("models") / name)
        assert run.data.params["recipe.epochs"] == str(epochs)
        for metric in ("val_loss", "train/images_per_s", "train/memory_mb"):
            values = client.get_metric_history(run.info.run_id, metric)
            assert [value.step for value in values] == list(range(1, epochs + 1))
        assert run.data.metrics["best_epoch"] == kept["epoch"]
        assert run.data.metrics["best_val_loss"] == kept["val_loss"]
        assert [item.dataset.name for item in run.inputs.dataset_inputs] == [
            "digits training",
            "digits validation",
        ]
        # The run's checkpoint is the very bundle.
        found = find_bundle(run.info.run_id, small.tracking)
        assert bundle_digest(found) == bundle_digest(Path("models") / name)
        (model,) = client.search_logged_models([experiment], f"source_run_id = '{run.info.run_id}'")
        figures = {metric.key: (metric.step, metric.value) for metric in model.metrics}
        expected = {key: (kept["epoch"], kept[key]) for key in kept if key.startswith("val_")}
        assert figures == expected
        # Nobody asked for the load of the nodes.
        assert not [metric for metric in run.data.metrics if metric.startswith("system/")]
    # The tuned model starts from the base model and keeps its normalisation.
    base, tuned = (load_bundle(Path("models") / name).description for name in ("base", "tuned"))
    assert (tuned.mean, tuned.std) == (base.mean, base.std)
    assert tuned.origin["weights"] == bundle_digest(Path("models/base"))
    assert [path.name for path in Path(".convoy/runs").iterdir()] == ["compute"]
    assert (
        runs["train"]
        .data.tags["convoy.compute"]
        .startswith("1 worker, fp32, channels last, 1 thread")
    )
    assert "10 tensors loaded" in runs["finetune"].data.tags["convoy.loaded"]


def test_the_same_training_gives_the_same_bundle(cluster, small, packed):
    digests = []
    for _ in range(2):
        train.run(small)
        digests.append(bundle_digest(Path("models/base")))
    assert digests[0] == digests[1]


def test_a_training_that_fails_ends_its_run_and_keeps_the_old_bundle(cluster, small, packed):
    Path("models/base").mkdir(parents=True)
    Path("models/base/kept").write_text("")
    wild = Sgd(name="sgd", lr=1e30)
    schedule = ConstantRate(name="constant", warmup_epochs=0.0)
    recipe = small.train.model_copy(update={"optimizer": wild, "schedule": schedule})
    with pytest.raises(PipelineError, match="the training loss is nan"):
        train.run(small.model_copy(update={"train": recipe}))
    client = open_client(small.tracking)
    (run,) = client.search_runs([client.get_experiment_by_name("convoy").experiment_id])
    assert run.info.status == "FAILED"
    assert Path("models/base/kept").exists()


def test_mistakes_are_found_before_workers_start(small, packed):
    for changes, message in (
        ({"weights": "none.safetensors"}, r"no weights at .*none\.safetensors"),
        ({"images": "data/balanced"}, r"data/balanced is missing; run dvc repro"),
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
    assert _cluster(small) == "this process has room for 1 worker of 1 CPU"


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


def write_params(**changes):
    """Write params.yaml for a training that lasts, with other values on the lines named."""
    values = {"epochs: 60": "epochs: 3000", "patience: 20": "patience: 3000", **changes}
    text = (ROOT / "params.yaml").read_text()
    for before, after in values.items():
        assert before in text
        text = text.replace(before, after, 1)
    Path("params.yaml").write_text(text)


def start_training():
    """Start `convoy train` as a shell does, and wait until it trains."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "train"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )

    def trains():
        assert process.poll() is None, process.communicate()
        logs = Path(".convoy/runs").glob("*/events.jsonl")
        return any("epoch_progress" in log.read_text() for log in logs)

    wait_until(trains)
    return process


def wait_until_it_takes(number, process):
    """Wait until a process has a handler of its own for a signal, by what Linux says of it."""
    status = Path(f"/proc/{process.pid}/status")

    def takes():
        assert process.poll() is None
        caught = int(status.read_text().split("SigCgt:")[1].split()[0], 16)
        return caught & (1 << (number - 1))

    wait_until(takes)


def lines_of(text):
    return [line for line in text.splitlines() if line]


ASKED = "train: stops after a checkpoint; ask again to stop at once"
STOPPED = "convoy: stopped"


def test_ctrl_c_saves_first(small, packed):
    write_params(**{"checkpoint_interval_s: 5": "checkpoint_interval_s: 1000"})
    process = start_training()
    (run_folder,) = Path(".convoy/runs").glob("train-*")
    assert newest_checkpoint(run_folder / "checkpoints") is None
    asked = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # a terminal tells all of its processes
    out, err = process.communicate(timeout=60)
    assert time.monotonic() - asked < 30  # the store opens its database meanwhile
    assert process.returncode == 130
    assert ASKED in lines_of(err)
    assert lines_of(err)[-1] == STOPPED
    assert not out
    assert newest_checkpoint(run_folder / "checkpoints")
    client = open_client(small.tracking)
    (run,) = client.search_runs([client.get_experiment_by_name("convoy").experiment_id])
    assert run.info.status == "KILLED"


def test_a_killed_training_leaves_its_best_weights_at_the_store(small, packed):
    write_params(**{"checkpoint_interval_s: 5": "checkpoint_interval_s: 0.1"})
    open_client(small.tracking)  # a kill while MLflow makes its database is another matter
    process = start_training()

    def journals():
        assert process.poll() is None, process.communicate()
        written = Path(".convoy/journal").glob("*.jsonl")
        return [path for path in written if '"act": "checkpoint"' in path.read_text()]

    wait_until(journals)
    (journal,) = journals()
    children = psutil.Process(process.pid).children(recursive=True)
    for one in (psutil.Process(process.pid), *children):
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.communicate()
    left = {copy.name for copy in journal.with_suffix(".checkpoints").iterdir()}
    sync.run(small)
    client = open_client(small.tracking)
    (run,) = client.search_runs([client.get_experiment_by_name("convoy").experiment_id])
    assert run.info.status == "KILLED"
    found = find_bundle(run.info.run_id, small.tracking)
    assert weights_digest(found) in left
    bundle = load_bundle(found)
    losses = client.get_metric_history(run.info.run_id, "val_loss")
    assert bundle.description.validation["loss"] in [loss.value for loss in losses]
    assert not list(unsettled(Path(".convoy/journal")))
    assert not list(Path(".convoy/journal").glob("*.checkpoints"))


def test_a_stop_before_anything_is_trained_is_immediate(small, packed):
    write_params()
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "train"], stderr=subprocess.PIPE, text=True
    )
    wait_until_it_takes(signal.SIGTERM, process)  # Ray is starting
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert (process.returncode, lines_of(err)) == (130, [STOPPED])


def test_two_local_workers_one_of_them_killed(small, packed):
    """They listen on loopback only; the death is told, and where the logs are; SIGTERM saves."""
    write_params(**{"workers: 1": "workers: 2", "interval_s: 5": "interval_s: 1000"})
    process = start_training()
    ours = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    workers = [one for one in ours if "RayTrainWorker" in " ".join(one.cmdline())]
    assert len(workers) == 2
    open_ports = {
        (one.name(), connection.laddr.ip)
        for one in ours
        for connection in one.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {name for name, _ in open_ports} >= {one.name() for one in workers}
    assert {ip for _, ip in open_ports} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, open_ports
    workers[1].kill()
    told = ""
    while "restarted" not in told:
        told = process.stderr.readline()
    assert Path(told.split("Ray's logs: ")[1].strip()).is_dir()
    process.terminate()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert ASKED in lines_of(err)
    assert lines_of(err)[-1] == STOPPED
    assert all(line.startswith(("train: ", "convoy: ")) for line in lines_of(out + err)), err
    (run_folder,) = Path(".convoy/runs").glob("train-*")
    assert newest_checkpoint(run_folder / "checkpoints")
