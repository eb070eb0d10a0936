"""Real tracking servers that die, hang, dawdle or are away while a run is recorded.

Afterwards each record is there, in order, exactly once, and the run's status is right.
"""

import importlib.util
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeline.cli import run as convoy
from pipeline.data.packing.preprocess import Preprocessing
from pipeline.params import load_params
from pipeline.runtime.tracking import uploader
from pipeline.runtime.tracking.run_logger import RunLogger
from pipeline.runtime.tracking.run_metadata import RunMetadata
from pipeline.runtime.tracking.store import open_client
from pipeline.vision.bundle.description import Description
from tests.contract.imports import ROOT
from tests.distributed.forks import Fork
from tests.distributed.servers import POSTGRES, Hanging, Postgres, Server, slow_way_to
from tests.waiting import wait_until

pytestmark = pytest.mark.distributed

needs_postgres = pytest.mark.skipif(
    not (POSTGRES / "postgres").exists() or importlib.util.find_spec("psycopg2") is None,
    reason=f"needs psycopg2 and PostgreSQL in {POSTGRES} (Debian's package postgresql-15)",
)
EPOCHS = 30
NAMES = ("train_loss", "val_loss", "train/images_per_s")


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(uploader, "_LONGEST_PAUSE_S", 1.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def tracking(tmp_path):
    return load_params(ROOT / "params.yaml").tracking.model_copy(
        update={"uri": f"sqlite:///{tmp_path}/mlflow.db", "experiment": "servers"}
    )


@pytest.fixture
def server(empty_store, tmp_path):
    shutil.copy(empty_store, tmp_path / "server.db")
    server = Server(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def postgres():
    postgres = Postgres()
    yield postgres
    postgres.remove()


def at(tracking, address):
    return tracking.model_copy(update={"uri": address})


def begin(tracking, name="train"):
    folder = Path("runs", f"{name}-abc").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    params = {f"p{number}": str(number) for number in range(120)}
    data = {"name": "packed", "digest": "12ab", "source_type": "local", "source": "data/packed"}
    metadata = RunMetadata(
        name, params, {"convoy.stage": name}, {"training": data | {"profile": "{}"}}
    )
    run_logger = RunLogger(tracking, metadata, Path(".convoy/journal"), folder)
    run_logger.open()
    return run_logger


def train(run_logger, epochs=range(1, EPOCHS + 1), pause_s=0.1, meanwhile=()):
    """Record epochs, and before some of them let something happen."""
    meanwhile = dict(meanwhile)
    longest_s = 0.0
    for epoch in epochs:
        meanwhile.get(epoch, lambda: None)()
        start_s = time.perf_counter()
        run_logger.log({name: epoch + index / 10 for index, name in enumerate(NAMES)}, epoch)
        run_logger.tag("convoy.epoch", str(epoch))
        longest_s = max(longest_s, time.perf_counter() - start_s)
        time.sleep(pause_s)
    assert longest_s < 1.5  # nobody waited for the store, which may take 2 s for an answer


def finish(run_logger, status="FINISHED"):
    start_s = time.monotonic()
    run_logger.end(status, {"convoy.bundle": "digest"})
    seconds = time.monotonic() - start_s
    shutil.rmtree("runs", ignore_errors=True)
    run_logger.close()
    return seconds


def in_background(act):
    threading.Thread(target=act, daemon=True).start()


def the_run(tracking, status="FINISHED", epochs=EPOCHS):
    """Check that the store has one run with all of its records, each once, in order."""
    client = open_client(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == status
    assert (run.info.end_time is not None) == (status != "RUNNING")
    assert run.data.params == {f"p{number}": str(number) for number in range(120)}
    assert run.data.tags["convoy.epoch"] == str(epochs)
    assert len(run.inputs.dataset_inputs) == 1
    for index, name in enumerate(NAMES):
        found = client.get_metric_history(run.info.run_id, name)
        found.sort(key=lambda metric: metric.timestamp)
        expected = [(epoch, epoch + index / 10) for epoch in range(1, epochs + 1)]
        assert [(metric.step, metric.value) for metric in found] == expected
    assert run.data.tags["convoy.records"] == f"{len(NAMES) * epochs} of {len(NAMES) * epochs}"
    return run


@pytest.fixture
def warned(capsys):
    """Return a function that waits for the warning of a store that is away: all that was said."""
    said = []

    def read():
        said.append(capsys.readouterr().err)
        return "training goes on; records wait in" in "".join(said)

    def wait():
        wait_until(read, what="no warning")
        return "".join(said)

    return wait


def nothing_is_left():
    assert list(Path(".convoy/journal").iterdir()) == []


def test_a_server_that_is_killed_and_started_again(server, tracking, warned):
    server.start()
    tracking = at(tracking, server.address)
    run_logger = begin(tracking)
    train(run_logger, meanwhile={8: server.kill, 20: lambda: warned() and server.start()})
    finish(run_logger)
    the_run(tracking)
    nothing_is_left()
    assert warned().count("warning: ") == 1


def test_a_server_that_is_away_at_the_start_and_comes_later(server, tracking):
    tracking = at(tracking, server.address)
    run_logger = begin(tracking)
    train(run_logger, meanwhile={20: server.start})
    finish(run_logger)
    the_run(tracking)
    nothing_is_left()


def prepare(path=Path("params.yaml")):
    """Make the folder one in which `convoy sync` works."""
    shutil.copy(ROOT / "params.yaml", path)


def test_a_server_that_is_away_for_good_and_what_sync_makes_of_it(
    server, tracking, monkeypatch, capsys
):
    monkeypatch.setattr(uploader, "_PATIENCE_S", 2.0)
    tracking = at(tracking, server.address)
    run_logger = begin(tracking)
    train(run_logger, pause_s=0.01)
    assert finish(run_logger) < 4
    records = 1 + EPOCHS * (len(NAMES) + 1) + 1 + 1
    assert f"warning: {records} records of this run wait in" in capsys.readouterr().err
    prepare()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    assert convoy(["sync"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(
        f"convoy: the MLflow store at {server.address} does not take what is left"
    )
    assert f"{records} records" in err
    assert err.count("\n") == 1
    server.start()
    assert convoy(["sync"]) == 0
    said = capsys.readouterr().out
    assert f"{records} records of train-abc-" in said
    assert "which has 90 of 90 values" in said
    nothing_is_left()
    the_run(tracking.model_copy(update={"experiment": "servers"}))
    assert convoy(["sync"]) == 0
    assert f"nothing is left to deliver to {server.address}" in capsys.readouterr().out


def test_a_server_that_hangs_delays_neither_epochs_nor_the_end(
    server, tracking, monkeypatch, capsys
):
    monkeypatch.setattr(uploader, "_PATIENCE_S", 3.0)
    hanging = Hanging(server.port)
    tracking = at(tracking, server.address)
    run_logger = begin(tracking)
    train(run_logger, pause_s=0.01)
    assert finish(run_logger) < 6
    assert "convoy sync delivers them" in capsys.readouterr().err
    hanging.close()
    server.start()
    again = begin(tracking, "finetune")  # the next training delivers what the one before could not
    again.end("FINISHED")
    again.close()
    client = open_client(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment)
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name: run.info.status for run in runs} == {
        "finetune": "FINISHED",
        "train": "FINISHED",
    }
    (own,) = (run for run in runs if run.info.run_name == "finetune")
    client.delete_run(own.info.run_id)
    the_run(tracking)


def test_a_server_that_falls_asleep_and_then_does_what_it_was_asked_twice(
    server, tracking, monkeypatch
):
    """Requests that were given up lie in its sockets: it carries them out when it wakes up."""
    monkeypatch.setattr(uploader, "_LONGEST_PAUSE_S", 0.3)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    server.start()
    tracking = at(tracking, server.address)
    open_client(tracking)
    server.stop()
    run_logger = begin(tracking)  # its run is asked for again and again
    train(run_logger, meanwhile={28: server.go_on, 29: server.stop}, pause_s=0.15)
    server.go_on()
    finish(run_logger)
    wait_until(lambda: not server.abandoned(), what="to carry out what was given up")
    the_run(tracking)
    nothing_is_left()


def test_a_slow_server(server, tracking):
    server.start()
    with slow_way_to(server, 0.2) as address:
        tracking = at(tracking, address)
        run_logger = begin(tracking)
        train(run_logger)
        finish(run_logger)
        the_run(at(tracking, server.address))
        nothing_is_left()


@pytest.mark.parametrize("kept", ["best", "improved"])
def test_a_server_that_dies_while_a_checkpoint_is_uploaded(
    empty_store, tracking, tmp_path, monkeypatch, kept
):
    from mlflow import MlflowClient

    from pipeline.runtime.registry.versions import find_bundle

    monkeypatch.setattr(uploader, "_PATIENCE_S", 60.0)  # with `best` it dies while the end waits
    shutil.copy(empty_store, tmp_path / "server.db")
    server = Server(tmp_path, proxied=True)
    server.start()
    weights = {"w": np.zeros(1 << 20, np.float32)}  # 4 MiB: some seconds on this way
    save_file(weights, "best.safetensors")
    preprocessing = Preprocessing(28, 28, 1, "stretch", 0, 8)
    description = Description("lenet5", {}, ("cat", "dog"), preprocessing, (0.3,), (0.3,))
    client = MlflowClient(server.address)
    died, missed = threading.Event(), threading.Event()

    def models():
        experiments = [found.experiment_id for found in client.search_experiments()]
        return client.search_logged_models(experiments)

    def die():
        wait_until(models, what="no upload has begun")
        server.kill()
        died.set()
        assert missed.wait(60)  # the upload has met its absence
        server.start()

    try:
        with slow_way_to(server, 0.05, missed) as address:
            tracking = at(tracking, address).model_copy(update={"checkpoints": kept})
            run_logger = begin(tracking)
            train(run_logger, range(1, 10))
            in_background(die)
            run_logger.checkpoint(Path("best.safetensors"), description, 9, {"val_loss": 9.1})
            train(run_logger, range(10, EPOCHS + 1))
            finish(run_logger)
            assert died.is_set()
            run = the_run(at(tracking, server.address))
            (model,) = models()
            assert (model.name, str(model.status)) == ("epoch-9", "READY")
            assert model.source_run_id == run.info.run_id
            assert [(m.key, m.step, m.value) for m in model.metrics] == [("val_loss", 9, 9.1)]
            outputs = [(output.model_id, output.step) for output in run.outputs.model_outputs]
            assert outputs == [(model.model_id, 9)]
            bundle = find_bundle(run.info.run_id, at(tracking, server.address))
            found = (bundle / "model.safetensors").read_bytes()
            assert found == Path("best.safetensors").read_bytes()
            nothing_is_left()
    finally:
        server.kill()


@needs_postgres
@pytest.mark.parametrize("direct", [False, True])
def test_a_database_that_is_killed_and_started_again(postgres, tracking, warned, tmp_path, direct):
    """PostgreSQL, behind a server that lives, and without one."""
    postgres.start()
    server = Server(tmp_path, postgres.uri)
    try:
        if not direct:
            server.start()
        tracking = at(tracking, postgres.uri if direct else server.address)
        run_logger = begin(tracking)
        train(run_logger, meanwhile={8: postgres.kill, 20: lambda: warned() and postgres.start()})
        finish(run_logger)
        the_run(tracking)
        nothing_is_left()
    finally:
        server.kill()


@needs_postgres
def test_a_server_on_postgres_that_is_killed_and_started_again(
    postgres, tracking, warned, tmp_path
):
    postgres.start()
    server = Server(tmp_path, postgres.uri)
    server.start()
    try:
        tracking = at(tracking, server.address)
        run_logger = begin(tracking)
        train(run_logger, meanwhile={8: server.kill, 20: lambda: warned() and server.start()})
        finish(run_logger)
        the_run(tracking)
        nothing_is_left()
    finally:
        server.kill()


WORKER = """
from pipeline.params import Tracking
from tests.distributed.test_tracking_servers import begin, train
run_logger = begin(Tracking.model_validate_json({tracking!r}), {name!r})
print("going", flush=True)
train(run_logger, range(1, {epochs} + 1))
run_logger.end("FINISHED")
run_logger.close()
print("done")
"""


def start_process(tracking, log, name="train", epochs=EPOCHS):
    tracking = tracking.model_dump_json()
    return Fork(WORKER.format(tracking=tracking, name=name, epochs=epochs), Path.cwd(), log)


def has_ended(process, log):
    """Wait for a process, and check that all went well, without a warning."""
    process.wait()
    said = log.read_text()
    assert said.endswith("done\n"), said
    assert "warning" not in said


def test_six_processes_at_once_on_a_fresh_store(tracking, tmp_path):
    logs = [tmp_path / f"train{number}" for number in range(6)]
    processes = [start_process(tracking, log, log.name, 10) for log in logs]
    for process, log in zip(processes, logs, strict=True):
        has_ended(process, log)
    client = open_client(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment)
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == [f"train{number}" for number in range(6)]
    for run in runs:
        assert run.info.status == "FINISHED"
        assert run.data.tags["convoy.records"] == "30 of 30"
        found = client.get_metric_history(run.info.run_id, "val_loss")
        assert sorted(metric.step for metric in found) == list(range(1, 11))


def test_a_training_that_is_killed_ends_as_killed_and_goes_on(tracking, tmp_path):
    logs = [tmp_path / name for name in ("first", "other", "again")]
    first = start_process(tracking, logs[0], epochs=1000)
    wait_until(lambda: logs[0].exists() and logs[0].read_text() == "going\n", what="no process")
    client = open_client(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment)

    def runs():
        return client.search_runs([experiment.experiment_id])

    wait_until(lambda: runs() and "val_loss" in runs()[0].data.metrics, what="no run")
    first.kill()
    assert runs()[0].info.status == "RUNNING"
    has_ended(start_process(tracking, logs[1], "finetune", 1), logs[1])
    states = {run.info.run_name: run.info.status for run in runs()}
    assert states == {"train": "KILLED", "finetune": "FINISHED"}
    (own,) = (run for run in runs() if run.info.run_name == "finetune")
    client.delete_run(own.info.run_id)
    told = len(client.get_metric_history(runs()[0].info.run_id, "val_loss"))
    again = start_process(tracking, logs[2], epochs=told + 5)  # it tells all from the first
    has_ended(again, logs[2])
    the_run(tracking, epochs=told + 5)


def test_a_store_that_lost_what_it_had_gets_it_again(server, tracking, tmp_path):
    """As when it is restored from a backup."""
    server.start()
    tracking = at(tracking, server.address)
    run_logger = begin(tracking)
    backup = tmp_path / "backup.db"

    def restore():
        server.kill()
        shutil.copy(backup, tmp_path / "server.db")
        server.start()

    client = open_client(tracking)
    where = client.get_experiment_by_name(tracking.experiment).experiment_id
    wait_until(lambda: client.search_runs([where]), what="no run")
    meanwhile = {10: lambda: shutil.copy(tmp_path / "server.db", backup), 20: restore}
    train(run_logger, meanwhile=meanwhile)
    finish(run_logger)
    the_run(tracking)
    nothing_is_left()
