"""Real tracking servers that die, hang, dawdle or are away while a run is recorded.

Afterwards each record is there, in order, exactly once, and the run's status is right.
"""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from pipeline.cli import run as convoy
from pipeline.data.packing.preprocess import Preprocessing
from pipeline.runtime.tracking import uploader
from pipeline.runtime.tracking.store import open_client
from pipeline.vision.bundle.description import Description
from tests.contract.imports import ROOT
from tests.distributed.servers import Hanging, Server, slow_way_to
from tests.distributed.tracking.recording import (
    EPOCHS,
    NAMES,
    at,
    begin,
    finish,
    nothing_is_left,
    runs_of,
    the_run,
    train,
)
from tests.waiting import wait_until

pytestmark = pytest.mark.distributed


def in_background(act):
    threading.Thread(target=act, daemon=True).start()


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
    runs = runs_of(client, tracking)
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
