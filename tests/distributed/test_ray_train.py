"""Real Ray Train runs: several processes, some of them killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import PipelineError
from pipeline.runtime.ray_train import RayRun, train_on_ray
from pipeline.vision.training.batches import Share
from pipeline.vision.training.job import Job
from pipeline.vision.training.trainer import BEST_FILE, read_progress
from tests.contract.imports import ROOT

pytestmark = pytest.mark.distributed


def make_job(params, sets, **changes):
    values = params.train.model_dump(mode="json")
    values |= {"epochs": 3, "global_batch_size": 16, "mixup_alpha": 0.3} | changes
    values["early_stopping"] = {"patience": 1000, "min_delta": 0.0}
    recipe = type(params.train).model_validate(values, strict=False)
    return Job((sets[0],), sets[1], "lenet5", {}, None, (0.2,), (0.3,), recipe)


def make_run(params, tmp_path, name="run", **resources):
    few = {"workers": 1, "cpus_per_worker": 1, "checkpoint_interval_s": 0.0} | resources
    return RayRun(name, tmp_path, params.resources.model_copy(update=few))


def alone(job):
    """Train in this process, without Ray, and return the trainer."""
    trainer, _ = job.build(Share(), torch.device("cpu"))
    while not trainer.done:
        trainer.run_epoch()
    return trainer


def without_speed(history):
    return [{k: v for k, v in record.items() if k != "images_per_s"} for record in history]


def assert_same_training(checkpoint, expected, tolerance):
    progress = read_progress(checkpoint)
    for found, wanted in zip(progress.history, expected.progress.history, strict=True):
        for key in ("train_loss", "val_loss"):
            assert found[key] == pytest.approx(wanted[key], abs=tolerance)
    best = load_file(checkpoint / BEST_FILE)
    for name, wanted in expected.best_weights.items():
        assert torch.allclose(best[name], wanted, atol=tolerance), name


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_trains_the_same_network(cluster, params, sets, tmp_path, workers):
    job = make_job(params, sets)
    records = []
    run = make_run(params, tmp_path, workers=workers)
    checkpoint = train_on_ray(job, run, records.append)
    assert_same_training(checkpoint, alone(job), tolerance=1e-5 if workers > 1 else 1e-6)
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert records == read_progress(checkpoint).history


def _kill_worker_after(records, epochs, killed):
    """Wait until `epochs` are recorded, then kill -9 the process that trains."""
    while not records.exists() or len(records.read_text().splitlines()) < epochs:
        time.sleep(0.05)
    ours = psutil.Process().children(recursive=True)
    workers = [process for process in ours if "RayTrainWorker" in " ".join(process.cmdline())]
    killed.append(workers[0].pid)
    os.kill(workers[0].pid, signal.SIGKILL)


def test_a_killed_worker_is_replaced_and_nothing_is_lost(cluster, params, sets, tmp_path):
    job = make_job(params, sets, epochs=30)
    run = make_run(params, tmp_path, max_failures=2)
    killed, records = [], []
    killer = threading.Thread(target=_kill_worker_after, args=(run.records, 5, killed), daemon=True)
    killer.start()
    checkpoint = train_on_ray(job, run, records.append)
    assert killed
    assert_same_training(checkpoint, alone(job), tolerance=1e-6)
    epochs = [int(record["epoch"]) for record in records]
    assert epochs[-1] == 30
    assert sorted(set(epochs)) == list(range(1, 31))


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from pipeline.params import load_params
from pipeline.runtime.ray_train import train_on_ray
from tests.distributed.test_ray_train import make_job, make_run
params = load_params(Path({root!r}) / "params.yaml")
job = make_job(params, (Path({train!r}), Path({val!r})), epochs={epochs})
print(train_on_ray(job, make_run(params, Path({storage!r})), lambda record: None))
"""


def test_a_killed_driver_is_followed_by_one_that_goes_on(params, sets, tmp_path):
    epochs = 60
    code = DRIVER.format(
        root=str(ROOT),
        train=str(sets[0]),
        val=str(sets[1]),
        epochs=epochs,
        storage=str(tmp_path),
    )
    records = make_run(params, tmp_path).records
    first = subprocess.Popen([sys.executable, "-c", code])
    while not records.exists() or len(records.read_text().splitlines()) < 10:
        assert first.poll() is None
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    done = len(records.read_text().splitlines())
    assert done < epochs
    before = [json.loads(line) for line in records.read_text().splitlines()]
    again = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=True
    )
    checkpoint = type(tmp_path)(again.stdout.split()[-1])
    history = read_progress(checkpoint).history
    # Epochs before the last checkpoint were not trained again: their speed is the first run's.
    same = [a == b for a, b in zip(before, history, strict=False)]
    assert sum(same) >= 8
    job = make_job(params, sets, epochs=epochs)
    assert_same_training(checkpoint, alone(job), tolerance=1e-6)


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"workers": 5}, r"resources asks for 5 CPUs \(5 workers\), the cluster has 4 CPUs"),
        ({"cpus_per_worker": 9}, r"asks for 9 CPUs \(1 workers\), the cluster has 4"),
        ({"gpus_per_worker": 1.0}, r"asks for 1 GPUs .*the cluster has 0 GPUs; lower"),
    ],
)
def test_too_few_resources_are_an_error_at_once(
    cluster, params, sets, tmp_path, resources, message
):
    start = time.monotonic()
    with pytest.raises(PipelineError, match=message):
        train_on_ray(make_job(params, sets), make_run(params, tmp_path, **resources), print)
    assert time.monotonic() - start < 30


def test_a_mistake_found_by_a_worker_is_told_once_and_leaves_nothing(
    cluster, params, sets, tmp_path
):
    wild = {"name": "sgd", "lr": 1e30, "momentum": 0.0, "weight_decay": 0.0}
    job = make_job(params, sets, optimizer=wild, schedule={"name": "constant", "warmup_epochs": 0})
    run = make_run(params, tmp_path, workers=2)
    with pytest.raises(
        PipelineError, match=r"training loss is nan at epoch 1, step \d \(of 5 steps"
    ):
        train_on_ray(job, run, print)
    assert not run.folder.exists()


def test_no_cluster_at_the_address(params, sets, tmp_path):
    run = make_run(params, tmp_path, address="127.0.0.1:1")
    with pytest.raises(PipelineError, match=r"answers at resources\.address 127\.0\.0\.1:1 .*null"):
        train_on_ray(make_job(params, sets), run, print)
