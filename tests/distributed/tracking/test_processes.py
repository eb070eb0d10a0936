"""Processes that record at once, and one that is killed."""

from pathlib import Path

import pytest

from pipeline.runtime.tracking.store import open_client
from tests.distributed.forks import Fork
from tests.distributed.tracking.recording import EPOCHS, runs_of, the_run
from tests.waiting import wait_until

pytestmark = pytest.mark.distributed

WORKER = """
from pipeline.params import Tracking
from tests.distributed.tracking.recording import begin, train
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
    runs = runs_of(client, tracking)
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

    def runs():
        return runs_of(client, tracking)

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
