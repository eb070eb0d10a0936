"""Processes killed for real, at random moments: nothing is lost, and nobody notices after."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from pipeline.errors import PipelineError
from pipeline.runtime.session.checkpoint_store import checkpoints, newest_checkpoint
from tests.contract.imports import ROOT
from tests.distributed.small_training import (
    News,
    alone,
    assert_same_training,
    chosen,
    few,
    folder_in,
    make_job,
    run,
)
from tests.projects import SGD
from tests.waiting import wait_until

pytestmark = pytest.mark.distributed

# Epochs of 94 steps of 2 ms.
LASTING = {"epochs": 20, "global_batch_size": 8, "optimizer": SGD}
INTERVAL_S = 0.2


@pytest.fixture(scope="module")
def undisturbed():
    """Return the trainer of a training that nobody disturbed, for a job and a way to compute."""
    known = {}

    def train(job, compute):
        key = repr((job, compute))
        known[key] = known.get(key) or alone(job, compute)
        return known[key]

    return train


def processes(name):
    """Return Ray's processes of that name that belong to these tests."""
    ours = psutil.Process().children(recursive=True)
    return [process for process in ours if name in " ".join(_command(process))]


def _command(process):
    try:
        return process.cmdline()
    except psutil.Error:  # it ends, or has ended
        return []


class Killer:
    """Kills a process -9 in a random one of the first epochs."""

    def __init__(self, name, seed, news):
        self.killed = None
        self._name, self._news = name, news
        self._epochs = random.Random(seed).randint(0, 3)
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self):
        wait_until(lambda: self._news.glances and len(self._news.records) >= self._epochs)
        self.killed = random.Random(0).choice(processes(self._name))
        self.killed.kill()


@pytest.mark.parametrize(
    ("name", "workers", "epochs", "seed"),
    [("RayTrainWorker", 2, 8, 1), ("RayTrainWorker", 2, 8, 2), ("TrainController", 2, 8, 3)],
)
def test_a_killed_process_is_replaced_and_nothing_is_lost(
    cluster, params, more, undisturbed, tmp_path, name, workers, epochs, seed
):
    job, news, folder = (
        make_job(params, more, **LASTING | {"epochs": epochs}),
        News(),
        folder_in(tmp_path),
    )
    killer = Killer(name, seed, news)
    resources = few(params, workers=workers, checkpoint_interval_s=INTERVAL_S, max_failures=1)
    checkpoint = run(job, resources, folder, news)
    assert killer.killed
    assert [name for name, _ in news.facts] == ["compute", "compute", "resumed"]
    assert_same_training(checkpoint, undisturbed(job, chosen(folder)))
    told = [int(record["epoch"]) for record in news.records]
    assert told[-1] == epochs
    assert sorted(set(told)) == list(range(1, epochs + 1))


def test_workers_that_go_on_failing(cluster, params, more, tmp_path):
    job, news, folder = make_job(params, more, **LASTING), News(), folder_in(tmp_path)
    killer = Killer("RayTrainWorker", 5, news)
    with pytest.raises(PipelineError, match=r"gave up after 0 restarts: .*logs are in") as raised:
        run(
            job,
            few(params, workers=2, checkpoint_interval_s=INTERVAL_S, max_failures=0),
            folder,
            news,
        )
    assert killer.killed
    logs = str(raised.value).split("logs are in ")[1].split(",")[0]
    assert list(Path(logs).glob("*raylet*"))
    assert newest_checkpoint(folder.checkpoints)


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from pipeline.errors import PipelineError
from pipeline.params import load_params
from tests.distributed.small_training import few, folder_in, make_job, run
params = load_params(Path({root!r}) / "params.yaml")
job = make_job(params, (Path({train!r}), Path({val!r})), **{changes!r})
if __name__ == "__main__":
    resources = few(params, workers={workers}, checkpoint_interval_s={interval_s})
    try:
        print(run(job, resources, folder_in(Path({folder!r}))))
    except PipelineError as error:  # as the command line has it
        print(error, file=sys.stderr)
"""


def test_a_killed_driver_is_followed_by_one_that_goes_on(params, more, undisturbed, tmp_path):
    code = DRIVER.format(
        root=str(ROOT),
        train=str(more[0]),
        val=str(more[1]),
        changes=LASTING,
        workers=1,
        interval_s=INTERVAL_S,
        folder=str(tmp_path),
    )
    log = folder_in(tmp_path).events
    first = subprocess.Popen([sys.executable, "-c", code])

    def trains():
        assert first.poll() is None
        saved = checkpoints(folder_in(tmp_path).checkpoints)
        return saved and log.exists() and "epoch_progress" in log.read_text()

    wait_until(trains)
    helpers = psutil.Process(first.pid).children(recursive=True)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    psutil.wait_procs(helpers, timeout=10)  # they follow the driver
    saved = checkpoints(folder_in(tmp_path).checkpoints)[0].name
    again = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=True
    )
    checkpoint = Path(again.stdout.split()[-1])
    job = make_job(params, more, **LASTING)
    assert_same_training(checkpoint, undisturbed(job, chosen(folder_in(tmp_path))))
    facts = [json.loads(line).get("fact") for line in log.read_text().splitlines()]
    epoch, step = (int(part) for part in saved.split("-"))
    assert ["resumed", f"goes on from epoch {epoch + 1}, step {step + 1}"] in facts


@pytest.mark.parametrize(
    ("name", "when"), [("raylet", "raylet"), ("gcs_server", "TrainController")]
)
def test_a_cluster_that_dies_before_the_first_step_is_one_line(params, more, tmp_path, name, when):
    code = DRIVER.format(
        root=str(ROOT),
        train=str(more[0]),
        val=str(more[1]),
        changes=LASTING | {"epochs": 2000},
        workers=2,
        interval_s=INTERVAL_S,
        folder=str(tmp_path),
    )
    driver = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)

    def found(name):
        assert driver.poll() is None
        children = psutil.Process(driver.pid).children(recursive=True)
        return [child for child in children if name in " ".join(child.cmdline()[:3])]

    wait_until(lambda: found(when))
    victim = found(f"/{name}")[0]
    victim.kill()
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 2
    assert "Ray's cluster on this machine is gone: " in errors.splitlines()[-1]
    assert f"{name} died or was killed. Its logs are in /tmp/ray/" in errors.splitlines()[-1]


def stop_early(job, resources, folder):
    """Ask a training to stop soon after it has begun, as the driver does on SIGTERM."""
    news = News()

    def ask():
        wait_until(lambda: news.glances and len(news.records) >= 3)
        folder.stop.touch()

    threading.Thread(target=ask, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run(job, resources, folder, news)
    return news


def test_damaged_checkpoints_are_passed_over(cluster, params, more, undisturbed, tmp_path):
    job, folder = make_job(params, more, **LASTING), folder_in(tmp_path)
    resources = few(params, checkpoint_interval_s=INTERVAL_S)
    stop_early(job, resources, folder)
    newest, before = checkpoints(folder.checkpoints)
    state = newest / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    news = stop_early(job, resources, folder)
    epoch, step = (int(part) for part in before.name.split("-"))
    assert ("resumed", f"goes on from epoch {epoch + 1}, step {step + 1}") in news.facts
    newest, before = checkpoints(folder.checkpoints)
    (newest / "training_state.json").unlink()
    (folder.checkpoints / ".half-written").mkdir()
    checkpoint = run(job, resources, folder)
    assert_same_training(checkpoint, undisturbed(job, chosen(folder)))
    assert not list(folder.checkpoints.glob(".*"))
