"""Run loggers that write to a real SQLite store, and to one that is away."""

import logging
import shutil
import subprocess
import sys
import time

import pytest

from pipeline.errors import PipelineError
from pipeline.runtime.tracking import uploader
from pipeline.runtime.tracking.journal import Journal, unsettled
from pipeline.runtime.tracking.replay import Replay
from pipeline.runtime.tracking.run_logger import RunLogger
from pipeline.runtime.tracking.run_metadata import RunMetadata
from pipeline.runtime.tracking.stale_runs import folder_id
from pipeline.runtime.tracking.store import open_client
from tests.contract.imports import ROOT
from tests.waiting import wait_until

NOBODY = "http://127.0.0.1:9"  # the port of a service that nobody runs


@pytest.fixture
def tracking(store, tmp_path):
    return store.model_copy(update={"experiment": tmp_path.name})


@pytest.fixture
def begin(tracking, tmp_path):
    """Return a function that begins the run of the one training of a test."""
    loggers = []

    def begin(tracking=tracking, **changes):
        folder = tmp_path / "runs" / "train-abc"
        folder.mkdir(parents=True, exist_ok=True)
        values = {"name": "train", "params": {"a": "1"}, "tags": {"convoy.stage": "train"}}
        metadata = RunMetadata(**values | {"datasets": {}} | changes)
        loggers.append(RunLogger(tracking, metadata, tmp_path / "journal", folder))
        return loggers[-1]

    yield begin
    for run_logger in loggers:
        run_logger.close()


def end_training(run_logger, tmp_path):
    shutil.rmtree(tmp_path / "runs")
    run_logger.close()


def runs_in(tracking):
    client = open_client(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment)
    return client, client.search_runs([experiment.experiment_id])


def history(client, run, name):
    found = client.get_metric_history(run.info.run_id, name)
    return [(m.step, m.value) for m in sorted(found, key=lambda m: (m.timestamp, m.step))]


def test_a_run_holds_what_was_recorded_and_nothing_else_is_left(begin, tracking, tmp_path, capsys):
    data = {"name": "packed", "digest": "12ab", "source_type": "local"}
    data |= {"source": '{"uri": "data/packed/train"}', "profile": '{"images": 3}'}
    run_logger = begin(datasets={"training": data})
    run_logger.open()
    for epoch in (1, 2):
        run_logger.log({"loss": 1 / epoch, "lr": 0.1}, epoch)
    run_logger.log({"load": 0.5}, 1, 1234567890123)
    run_logger.tag("convoy.compute", "fp32")
    run_logger.end("FINISHED", {"convoy.bundle": "d"})
    end_training(run_logger, tmp_path)
    client, (run,) = runs_in(tracking)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "train"
    assert run.data.params == {"a": "1"}
    for name, value in {"stage": "train", "compute": "fp32", "bundle": "d"}.items():
        assert run.data.tags[f"convoy.{name}"] == value
    assert run.data.tags["convoy.records"] == "5 of 5"
    assert history(client, run, "loss") == [(1, 1.0), (2, 0.5)]
    assert client.get_metric_history(run.info.run_id, "load")[0].timestamp == 1234567890123
    (found,) = run.inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("packed", "12ab")
    assert [(tag.key, tag.value) for tag in found.tags] == [("mlflow.data.context", "training")]
    assert list((tmp_path / "journal").iterdir()) == []
    assert capsys.readouterr().err == ""


def test_a_training_that_goes_on_keeps_its_run_and_tells_no_step_twice(begin, tracking, tmp_path):
    first = begin()
    first.log({"loss": 3.0, "lr": 0.1}, 1)
    first.end("KILLED")
    first.close()
    client, (run,) = runs_in(tracking)
    assert run.info.status == "KILLED"
    again = begin()
    for epoch in (1, 2, 2):  # told again from the start, and once more after a worker's death
        again.log({"loss": 3.0 / epoch + 0.1 * (epoch == 1), "lr": 0.1}, epoch)
    wait_until(lambda: client.get_run(run.info.run_id).info.status == "RUNNING")
    again.end("FINISHED")
    end_training(again, tmp_path)
    client, (run,) = runs_in(tracking)
    assert run.info.status == "FINISHED"
    assert history(client, run, "loss") == [(1, 3.0), (2, 1.5)]


def test_a_run_that_was_deleted_is_made_anew_when_its_training_goes_on(begin, tracking, tmp_path):
    first = begin()
    first.log({"loss": 3.0}, 1)
    first.end("KILLED")
    first.close()
    client, (run,) = runs_in(tracking)
    client.delete_run(run.info.run_id)
    again = begin()
    again.log({"loss": 2.0}, 2)
    again.end("FINISHED")
    end_training(again, tmp_path)
    client, (new,) = runs_in(tracking)
    assert new.info.run_id != run.info.run_id
    assert new.info.status == "FINISHED"
    assert new.data.params == {"a": "1"}
    assert history(client, new, "loss") == [(1, 3.0), (2, 2.0)]


def test_a_run_that_is_deleted_meanwhile_is_told_once(begin, tracking, tmp_path, capsys):
    run_logger = begin()
    run_logger.log({"loss": 3.0}, 1)
    wait_until(lambda: len(runs_in(tracking)[1]) == 1)
    client, (run,) = runs_in(tracking)
    wait_until(lambda: history(client, run, "loss"))
    client.delete_run(run.info.run_id)
    for epoch in (2, 3):
        run_logger.log({"loss": 2.0}, epoch)
        wait_until(lambda: not run_logger._journal.waiting)
    run_logger.end("FINISHED")
    end_training(run_logger, tmp_path)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"the run {run.info.run_id} at" in said
    assert "was deleted there; its further records are dropped" in said
    assert runs_in(tracking)[1] == []
    assert list((tmp_path / "journal").iterdir()) == []


def test_what_the_store_refuses_is_told_once_and_passed_over(begin, tracking, tmp_path, capsys):
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    run_logger = begin(params={"a": "1", "b?!|": "2", "c": "3"})
    run_logger.log({"loss": 1.0, "no|name": 2.0, "acc": 3.0}, 1)
    run_logger.log({"loss": 0.5, "no|name": 2.0}, 2)
    run_logger.end("FINISHED")
    end_training(run_logger, tmp_path)
    _, (run,) = runs_in(tracking)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"a": "1", "c": "3"}
    assert run.data.metrics == {"loss": 0.5, "acc": 3.0}
    assert run.data.tags["convoy.records"] == "3 of 5"
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "goes without params such as b?!|" in lines[0]
    assert "goes without metrics such as no|name" in lines[1]
    assert f"has 3 of 5 values of run {run.info.run_id}" in lines[2]
    assert list((tmp_path / "journal").iterdir()) == []


def test_more_values_than_one_call_takes(begin, tracking, tmp_path):
    run_logger = begin(params={f"p{i}": str(i) for i in range(150)})
    for step in range(5):
        run_logger.log({f"m{i}": float(i) for i in range(300)}, step)
    run_logger.end("FINISHED")
    end_training(run_logger, tmp_path)
    _, (run,) = runs_in(tracking)
    assert len(run.data.params) == 150
    assert run.data.tags["convoy.records"] == "1500 of 1500"


def test_a_training_goes_on_without_a_server(begin, tracking, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(uploader, "_PATIENCE_S", 1.0)
    away = tracking.model_copy(update={"uri": NOBODY.replace("//", "//me:secret@")})
    run_logger = begin(away)
    start_s = time.monotonic()
    run_logger.open()
    run_logger.log({"loss": 1.0}, 1)
    run_logger.tag("a", "b")
    assert time.monotonic() - start_s < 0.5
    run_logger.end("FINISHED", {"c": "d"})
    assert time.monotonic() - start_s < 5
    end_training(run_logger, tmp_path)
    said = capsys.readouterr().err
    assert said.count("\n") == 2
    assert f"until the MLflow store at {NOBODY} takes them: [Errno 111] Connection refused" in said
    assert "warning: 5 records of this run wait in" in said
    assert "convoy sync delivers them" in said
    (file,) = (tmp_path / "journal").glob("*.jsonl")
    assert "secret" not in said + file.read_text()
    left = Journal(file)
    left.read()
    assert left.waiting == 5


def test_what_never_began_leaves_nothing(begin, tmp_path):
    begin().abandon()
    assert not (tmp_path / "journal").exists()


def test_a_failure_without_a_run_leaves_one(begin, tracking):
    begin().end("FAILED")
    _, (run,) = runs_in(tracking)
    assert run.info.status == "FAILED"


def test_the_first_end_counts(begin, tracking):
    run_logger = begin()
    run_logger.end("FINISHED")
    run_logger.abandon()
    run_logger.end("FAILED")
    _, (run,) = runs_in(tracking)
    assert run.info.status == "FINISHED"


def test_an_address_that_mlflow_does_not_take_is_told_before(begin, tracking, tmp_path):
    with pytest.raises(PipelineError, match="did you mean http"):
        begin(tracking.model_copy(update={"uri": "htp://host"}))
    assert not (tmp_path / "journal").exists()


def test_a_folder_that_cannot_be_written_ends_no_training(begin, tracking, tmp_path, capsys):
    (tmp_path / "journal").write_text("a file where a folder should be")
    run_logger = begin()
    run_logger.open()
    run_logger.log({"loss": 1.0}, 1)
    run_logger.end("FINISHED")
    said = capsys.readouterr().err
    assert said.startswith("warning: training goes on without tracking: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("room_at_the_end", [True, False])
def test_a_full_disk_ends_tracking_and_is_counted(
    begin, tracking, tmp_path, capsys, small_disk, room_at_the_end
):
    other = small_disk / "other"
    other.write_bytes(b"x" * 20_000)
    run_logger = begin()
    run_logger.open()
    (file,) = small_disk.glob("*.jsonl")
    epoch = 0
    while not run_logger._broken:
        epoch += 1
        run_logger.log({f"loss_{number}": 1.0 for number in range(100)}, epoch)
    with (small_disk / "rest").open("wb", buffering=0) as rest:  # not even small entries fit
        while True:
            try:
                rest.write(b"x")
            except OSError:
                break
    size = file.stat().st_size
    with file.open("ab", buffering=0) as journal, pytest.raises(OSError, match="No space"):
        while journal.write(b"\n"):
            pass
    run_logger.log({"loss_0": 1.0}, epoch + 1)
    run_logger.tag("a", "b")
    assert file.stat().st_size >= size
    if room_at_the_end:
        other.unlink()
    run_logger.end("FINISHED")
    end_training(run_logger, tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == (
        f"warning: training goes on without tracking: {file} cannot be written"
        " ([Errno 28] No space left on device)"
    )
    if not room_at_the_end:  # the next training, which finds room, ends the run
        other.unlink()
        wait_until(lambda: all(left for _, left in unsettled(small_disk)))
        list(Replay(tracking, print).settle_left(small_disk))
    client, (run,) = runs_in(tracking)
    written = 100 * (epoch - 1)
    assert run.data.tags["convoy.records"] == f"{written} of more than {written}"
    assert run.info.status == ("FINISHED" if room_at_the_end else "KILLED")
    assert [step for step, _ in history(client, run, "loss_99")] == list(range(1, epoch))
    assert len(said) == (2 if room_at_the_end else 1)
    if room_at_the_end:
        assert f"has {written} of more than {written} values of run" in said[1]


def test_what_an_earlier_process_left_is_delivered_first(begin, tracking, tmp_path, capsys):
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[1]);"
        "from pathlib import Path; from pipeline.params import load_params;"
        "from pipeline.runtime.tracking.run_logger import RunLogger;"
        "tracking = load_params(Path(sys.argv[1]) / 'params.yaml').tracking.model_copy("
        "update={'uri': sys.argv[2], 'experiment': sys.argv[3]});"
        "from pipeline.runtime.tracking.run_metadata import RunMetadata;"
        "metadata = RunMetadata('left', {}, {}, {});"
        "r = RunLogger(tracking, metadata, Path('journal'), Path('runs/left'));"
        "r.open(); r.log({'loss': 1.0}, 1, 1000); r.log({'loss': 0.5}, 2, 2000); os._exit(1)"
    )
    command = [sys.executable, "-c", script, str(ROOT), tracking.uri, tracking.experiment]
    assert subprocess.run(command, check=False).returncode == 1
    run_logger = begin()
    run_logger.end("FINISHED")
    end_training(run_logger, tmp_path)
    client, runs = runs_in(tracking)
    ended = {run.info.run_name: run.info.status for run in runs}
    assert ended == {"left": "KILLED", "train": "FINISHED"}
    (left,) = (run for run in runs if run.info.run_name == "left")
    assert history(client, left, "loss") == [(1, 1.0), (2, 0.5)]
    assert left.info.end_time > 2000
    assert "4 records of left-" in capsys.readouterr().err
    assert list((tmp_path / "journal").iterdir()) == []


def test_a_stale_run_ends_at_the_next_start(begin, tracking, tmp_path, capsys):
    client = open_client(tracking)
    experiment = client.get_experiment_by_name(tracking.experiment).experiment_id
    live = Journal(tmp_path / "journal" / "train-live.jsonl")
    assert live.acquire()
    live.append({"act": "start", "store": tracking.uri, "folder": ""})
    tags = {"convoy.journals": folder_id(tmp_path / "journal"), "convoy.journal": "train-gone"}
    stale = client.create_run(experiment, tags=tags).info.run_id
    alive = client.create_run(experiment, tags=tags | {"convoy.journal": live.id}).info.run_id
    foreign = client.create_run(experiment, tags=tags | {"convoy.journals": "else"}).info.run_id
    begin().end("FINISHED")
    live.release()
    states = [client.get_run(run).info.status for run in (stale, alive, foreign)]
    assert states == ["KILLED", "RUNNING", "RUNNING"]
    assert f"run {stale} of a process that is gone ends as KILLED" in capsys.readouterr().err
