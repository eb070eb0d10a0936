import threading

import pytest

from pipeline.runtime.recorder import Recorder


class Run:
    def __init__(self):
        self.calls = []

    def log(self, metrics, step):
        self.calls.append(("log", metrics, step))

    def tag(self, name, value):
        self.calls.append(("tag", name, value))

    def end(self, status, tags=None):
        self.calls.append(("end", status, tags))


def test_all_is_recorded_in_order_and_nobody_waits():
    run, gate = Run(), threading.Event()

    def open_run():
        gate.wait(5)
        return run

    recorder = Recorder(open_run)
    recorder.open()
    recorder.tag("a", "b")
    recorder.log({"x": 1.0}, 1)
    assert run.calls == []
    gate.set()
    recorder.end("FINISHED", {"c": "d"})
    assert run.calls == [
        ("tag", "a", "b"),
        ("log", {"x": 1.0}, 1),
        ("end", "FINISHED", {"c": "d"}),
    ]


def test_a_run_is_opened_once():
    opened = []
    recorder = Recorder(lambda: opened.append(Run()) or opened[-1])
    recorder.open()
    recorder.tag("a", "b")
    recorder.abandon()
    assert len(opened) == 1
    assert opened[0].calls[-1] == ("end", "KILLED", None)


def test_what_never_began_leaves_no_run():
    recorder = Recorder(lambda: pytest.fail("opened"))
    recorder.abandon()


def test_a_failure_without_a_run_leaves_one():
    run = Run()
    Recorder(lambda: run).end("FAILED")
    assert run.calls == [("end", "FAILED", None)]
