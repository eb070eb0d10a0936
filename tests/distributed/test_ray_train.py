"""Real Ray Train runs of several processes."""

import threading
import time

import pytest
from safetensors.torch import load_file

from pipeline.errors import PipelineError
from pipeline.runtime.ray import fit as train
from pipeline.runtime.ray.cluster import open_cluster
from pipeline.runtime.session.checkpoint_store import newest_checkpoint
from pipeline.vision.training.checkpoint import BEST_FILE
from pipeline.vision.training.training_state import read_training_state
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

# Some seconds of small steps.
LASTING = {"epochs": 10, "global_batch_size": 4, "optimizer": SGD}


def without_memory(record):
    """Return a record as the history keeps it."""
    return {name: value for name, value in record.items() if name != "memory_mb"}


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_trains_the_same_network(cluster, params, sets, tmp_path, workers):
    job, news, folder = make_job(params, sets), News(), folder_in(tmp_path)
    # The only checkpoint is the last one.
    resources = few(params, workers=workers, checkpoint_interval_s=1000.0)
    checkpoint = run(job, resources, folder, news)
    tolerance = 1e-5 if workers > 1 else 1e-6
    assert_same_training(checkpoint, alone(job, chosen(folder)), tolerance)
    assert [record["epoch"] for record in news.records] == [1, 2, 3]
    assert [without_memory(record) for record in news.records] == (
        read_training_state(checkpoint).history
    )
    count = "1 worker" if workers == 1 else f"{workers} workers"
    ((name, text),) = news.facts
    assert name == "compute"
    assert text.startswith(f"{count}, fp32, channels last, 1 thread")


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"workers": 5}, r"resources asks for 5 CPUs \(5 workers\), the cluster has 4 CPUs"),
        ({"cpus_per_worker": 999}, r"asks for 999 CPUs \(1 workers\), this machine has \d+ CPUs"),
        ({"workers": 2, "cpus_per_worker": 9}, r"asks for 18 CPUs .*, the cluster has 4 CPUs"),
        ({"gpus_per_worker": 1.0}, r"asks for 1 GPUs .*this machine has 0 GPUs; lower"),
        (
            {"gpus_per_worker": 1.0, "workers": 2},
            r"asks for 2 GPUs .*the cluster has 0 GPUs; lower",
        ),
    ],
)
def test_too_few_resources_are_an_error_at_once(
    cluster, params, sets, tmp_path, resources, message
):
    start = time.monotonic()
    with pytest.raises(PipelineError, match=message):
        run(make_job(params, sets), few(params, **resources), folder_in(tmp_path))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("workers", [1, 2])
def test_a_checkpoint_that_cannot_be_written_is_an_error_without_restarts(
    cluster, params, sets, tmp_path, workers
):
    folder, news = folder_in(tmp_path), News()
    folder.checkpoints.parent.mkdir(parents=True, exist_ok=True)
    folder.checkpoints.write_text("in the way of a folder, as a full disk is")
    with pytest.raises(PipelineError, match=r"checkpoints/\S+ cannot be written: .*; free space"):
        run(make_job(params, sets), few(params, workers=workers), folder, news)
    assert [name for name, _ in news.facts] == ["compute"]


class Holder:
    """An actor that holds what it was given."""

    def ready(self):
        return True


@pytest.fixture
def three_cpus_in_use(cluster):
    holder = cluster.remote(num_cpus=3)(Holder).remote()
    cluster.get(holder.ready.remote())
    yield holder
    cluster.kill(holder)


def test_resources_that_others_hold_are_waited_for_but_not_for_ever(params, three_cpus_in_use):
    message = r"2 workers of 1 CPU each; others use 3 of 4 CPUs of the cluster, free are 1 CPUs"
    with open_cluster(few(params, workers=2)) as cluster:
        start = time.monotonic()
        with pytest.raises(PipelineError, match=message):
            cluster.grant(patience_s=1.0)
        assert 1 < time.monotonic() - start < 3


def test_as_many_workers_as_there_is_room_for(
    cluster, params, more, three_cpus_in_use, tmp_path, monkeypatch
):
    """One worker beside others, two when they have gone; the network is that of one."""
    monkeypatch.setattr(train, "_GROW_INTERVAL_S", 1.0)
    job, news, folder = make_job(params, more, **LASTING), News(), folder_in(tmp_path)

    def give_way():
        wait_until(lambda: news.glances)
        cluster.kill(three_cpus_in_use)

    threading.Thread(target=give_way, daemon=True).start()
    resources = few(params, workers=(1, 2), checkpoint_interval_s=0.2)
    checkpoint = run(job, resources, folder, news)
    computed = [text.split(",")[0] for name, text in news.facts if name == "compute"]
    assert computed == ["1 worker", "2 workers"]
    assert_same_training(checkpoint, alone(job, chosen(folder)), tolerance=1e-5)


def test_a_mistake_found_by_a_worker_is_told_once_and_leaves_nothing(
    cluster, params, sets, tmp_path
):
    wild = {"name": "sgd", "lr": 1e30, "momentum": 0.0, "weight_decay": 0.0, "layer_decay": 1.0}
    job = make_job(params, sets, optimizer=wild, schedule={"name": "constant", "warmup_epochs": 0})
    folder = folder_in(tmp_path)
    with pytest.raises(
        PipelineError, match=r"training loss is nan at epoch 1, step \d \(of 5 steps"
    ):
        run(job, few(params, workers=2, checkpoint_interval_s=100.0), folder)
    assert not folder.path.exists()


def test_a_training_that_diverges_keeps_its_last_good_checkpoint(cluster, params, sets, tmp_path):
    wild = {"name": "sgd", "lr": 1e5, "momentum": 0.0, "weight_decay": 0.0, "layer_decay": 1.0}
    schedule = {"name": "one_cycle", "rise": 0.9}
    job = make_job(params, sets, optimizer=wild, schedule=schedule, epochs=1000)
    folder = folder_in(tmp_path)
    message = r"loss is (nan|inf) at .*; the last good checkpoint is (.*), and train\.weights may"
    with pytest.raises(PipelineError, match=message) as raised:
        run(job, few(params), folder)
    checkpoint = newest_checkpoint(folder.checkpoints)
    assert str(checkpoint) in str(raised.value)
    weights = load_file(checkpoint / BEST_FILE)
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_a_batch_that_cannot_be_shared_out(cluster, params, sets, tmp_path):
    job = make_job(params, sets, global_batch_size=2)
    with pytest.raises(PipelineError, match="batches of 1 images cannot be shared out to 2"):
        run(job, few(params, workers=(1, 2)), folder_in(tmp_path))
