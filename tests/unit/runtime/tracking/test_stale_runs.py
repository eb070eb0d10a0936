import os
import subprocess
import sys
from types import SimpleNamespace

import psutil

from pipeline.runtime.tracking.stale_runs import (
    HOST_TAG,
    JOURNAL_TAG,
    PROCESS_TAG,
    end_stale_runs,
    is_alive,
    this_host,
    this_process,
)


def test_this_process_is_alive():
    tags = this_process()
    assert tags[HOST_TAG] == this_host() == this_host()
    assert tags[PROCESS_TAG].split()[0] == str(os.getpid())
    assert is_alive(tags[PROCESS_TAG])


def test_a_process_that_is_gone_or_whose_number_another_one_has():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    tag = f"{gone.pid} {psutil.Process(gone.pid).create_time():.2f}"
    gone.wait()
    assert not is_alive(tag)
    assert not is_alive(f"{os.getpid()} {psutil.Process().create_time() - 10:.2f}")


def test_a_tag_that_cannot_be_read_is_left_alone():
    for tag in ("", "x y", "5"):
        assert is_alive(tag)


class Client:
    """A store with runs of this machine."""

    def __init__(self, runs):
        self.runs, self.ended = runs, []

    def search_runs(self, experiments, query):
        assert experiments == ["7"]
        assert query == (f"attributes.status = 'RUNNING' and tags.`convoy.host` = '{this_host()}'")
        return self.runs

    def get_metric_history(self, run_id, name):
        assert run_id == "a"
        return [SimpleNamespace(timestamp=t) for t in {"loss": (20, 40), "acc": (30,)}[name]]

    def set_terminated(self, run_id, status, end_time):
        self.ended.append((run_id, status, end_time))


def run(run_id, process, metrics=(), **tags):
    return SimpleNamespace(
        info=SimpleNamespace(run_id=run_id, start_time=10),
        data=SimpleNamespace(
            tags={PROCESS_TAG: process} | tags, metrics=dict.fromkeys(metrics, 0.0)
        ),
    )


def test_runs_of_processes_that_are_gone_end_when_they_were_last_heard_of():
    gone = f"{os.getpid()} 1.00"
    client = Client(
        [
            run("a", gone, ["loss", "acc"]),
            run("b", this_process()[PROCESS_TAG], ["loss"]),
            run("c", gone),
            run("d", gone, **{JOURNAL_TAG: "mine"}),
            run("e", gone, **{JOURNAL_TAG: "other"}),
        ]
    )
    assert end_stale_runs(client, "7", {"mine"}) == ["a", "c", "e"]
    assert client.ended == [("a", "KILLED", 40), ("c", "KILLED", 10), ("e", "KILLED", 10)]
