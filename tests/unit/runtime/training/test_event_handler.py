from types import SimpleNamespace

import pytest

from pipeline.runtime.training.event_handler import EventHandler
from pipeline.vision.training.training_state import EpochProgress

CLUSTER = SimpleNamespace(logs="/logs")
NO_CHECKPOINTS = SimpleNamespace(look=lambda: None)
RECORD = {"epoch": 2, "train_loss": 0.5, "memory_mb": 300.0}


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
def watch(notes):
    return EventHandler(notes, notes, CLUSTER, NO_CHECKPOINTS)


def test_an_epoch_is_shown_and_logged_under_its_number(watch, notes):
    watch.record(RECORD)
    logged = {"train_loss": 0.5, "memory_mb": 300.0}
    assert notes.calls == [("record", RECORD), ("log", logged, 2)]


def test_the_load_of_a_node_is_logged_where_mlflow_looks_for_it(watch, notes):
    watch.load("node_1", 3, 1234, {"cpu_utilization_percentage": 87.5})
    assert notes.calls == [("log", {"system/node_1/cpu_utilization_percentage": 87.5}, 3, 1234)]


def test_facts_become_lines_and_tags(watch, notes):
    watch.fact("compute", "1 worker")
    watch.fact("compute", "1 worker")
    assert notes.calls == [
        ("line", "1 worker"),
        ("tag", "convoy.compute", "1 worker"),
        ("line", "the workers were started anew; Ray's logs: /logs"),
        ("line", "1 worker"),
        ("tag", "convoy.compute", "1 worker"),
    ]


def test_the_run_opens_while_the_workers_start(watch, notes):
    watch.begin()
    epoch_progress = EpochProgress(1, 10, 20, None)
    watch.epoch_progress(epoch_progress)
    assert notes.calls == [("open",), ("epoch_progress", epoch_progress)]
