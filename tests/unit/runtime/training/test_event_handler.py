import shutil
import threading
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.files import fresh_folder, write_json
from pipeline.runtime.training.event_handler import (
    BestWeights,
    EventHandler,
    _whole_checkpoints,
)
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.training.checkpoint import MANIFEST_FILE
from pipeline.vision.training.training_state import EpochProgress, TrainingState

RECORD = {"epoch": 2, "train_loss": 0.5, "memory_mb": 300.0}
BF16 = Arithmetic("bf16", "channels_last")


class Notes:
    """Notes what is called: a bar and a run logger in one."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *arguments: self.calls.append((name, *arguments))


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture
def best():
    """No checkpoint is there."""
    return SimpleNamespace(look=lambda: None, arithmetic=None)


@pytest.fixture
def handler(notes, best):
    return EventHandler(notes, notes, best, False)


def test_an_epoch_is_shown_and_logged_under_its_number(handler, notes):
    handler.record(RECORD)
    logged = {"train_loss": 0.5, "train/memory_mb": 300.0}
    assert notes.calls == [("record", RECORD), ("log", logged, 2)]


def test_the_metrics_of_a_node_are_logged_where_mlflow_looks_for_them(handler, notes):
    handler.system_metrics("node_1", 3, 1234, {"cpu_utilization_percentage": 87.5})
    assert notes.calls == [("log", {"system/node_1/cpu_utilization_percentage": 87.5}, 3, 1234)]


def test_facts_become_lines_and_tags(handler, notes):
    handler.fact("loaded", "10 tensors")
    assert notes.calls == [("line", "10 tensors"), ("tag", "convoy.loaded", "10 tensors")]


def test_workers_that_start_again_are_reported_with_rays_logs(handler, notes, best):
    handler.begin(Path("/logs"))
    for _ in range(2):
        handler.compute(BF16, "2 workers")
    once = [("line", "2 workers"), ("tag", "convoy.compute", "2 workers")]
    again = ("line", "the workers were restarted; Ray's logs: /logs")
    assert notes.calls == [("open",), *once, again, *once]
    assert best.arithmetic == BF16


def test_the_run_opens_while_the_workers_start(handler, notes):
    handler.begin(Path("/logs"))
    epoch_progress = EpochProgress(1, 10, 20, None)
    handler.epoch_progress(epoch_progress)
    assert notes.calls == [("open",), ("epoch_progress", epoch_progress)]


def test_without_workers_the_run_opens_with_the_first_event(handler, notes):
    handler.begin(None)
    assert notes.calls == []
    handler.compute(BF16, "1 worker")
    assert notes.calls[-1] == ("tag", "convoy.compute", "1 worker")


@pytest.mark.parametrize("folder", [".", "000001-0123abcd"], ids=["here", "fetched in a job"])
def test_a_checkpoint_that_is_ahead_of_the_events_keeps_the_epochs_in_order(
    notes, tmp_path, folder
):
    history = [{"epoch": epoch, "val_loss": 1 / epoch, "memory_mb": 9.0} for epoch in (1, 2, 3, 4)]
    newest = tmp_path / folder / "000004-000000000"
    newest.mkdir(parents=True)
    (newest / "manifest.json").touch()
    state = TrainingState(4, 0, 1.0, 3, -1 / 3, -1 / 3, 1, history, best_loss=1 / 3)
    write_json(newest / "training_state.json", asdict(state))
    job = SimpleNamespace(description=lambda metrics, _: metrics)
    EventHandler(notes, notes, BestWeights(notes, job, tmp_path), False).record(history[0])
    logged = [call[2] for call in notes.calls if call[0] == "log"]
    assert logged == [1, 1, 2, 3]  # the first one twice, which the run logger records once
    weights = newest / "best.safetensors"
    assert notes.calls[-1] == ("checkpoint", weights, {"loss": 1 / 3}, 3, {"val_loss": 1 / 3})


def test_checkpoints_are_found_while_others_are_written_and_removed(tmp_path):
    for name in ("000001-000000000", "group/000002-000000000", ".000003-0.abc.tmp/000003-0"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / MANIFEST_FILE).touch()
    (tmp_path / "000004-000000000").mkdir()  # not whole
    ended = threading.Event()

    def churn():
        while not ended.is_set():
            with fresh_folder(tmp_path / "000005-000000000") as new:
                (new / "a" / "b").mkdir(parents=True)
            shutil.rmtree(tmp_path / "000005-000000000")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(300):
            found = {path.name for path in _whole_checkpoints(tmp_path)}
            assert found == {"000001-000000000", "000002-000000000"}
    finally:
        ended.set()
        thread.join()
