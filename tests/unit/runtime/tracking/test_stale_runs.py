from types import SimpleNamespace

import pytest

from pipeline.runtime.tracking.journal import Journal
from pipeline.runtime.tracking.stale_runs import (
    FOLDER_TAG,
    JOURNAL_TAG,
    end_stale_runs,
    folder_id,
)


def test_a_folder_of_journals_has_one_name(tmp_path, monkeypatch):
    (tmp_path / "journal").mkdir()
    monkeypatch.chdir(tmp_path)
    assert folder_id(tmp_path / "journal") == folder_id(tmp_path / "other" / ".." / "journal")
    assert folder_id(tmp_path / "journal") != folder_id(tmp_path / "other")


class Client:
    """A store with runs of one folder of journals."""

    def __init__(self, journals, runs):
        self.journals, self.ended = journals, []
        self.runs = {run.info.run_id: run for run in runs}

    def search_runs(self, experiments, query):
        assert experiments == ["7"]
        assert query == (
            f"attributes.status = 'RUNNING' and tags.`{FOLDER_TAG}` = '{folder_id(self.journals)}'"
        )
        return [run for run in self.runs.values() if run.info.status == "RUNNING"]

    def get_run(self, run_id):
        return self.runs[run_id]

    def get_metric_history(self, run_id, name):
        assert run_id == "a"
        return [SimpleNamespace(timestamp=t) for t in {"loss": (20, 40), "acc": (30,)}[name]]

    def set_terminated(self, run_id, status, end_time):
        self.ended.append((run_id, status, end_time))


def run(run_id, journal, metrics=()):
    return SimpleNamespace(
        info=SimpleNamespace(run_id=run_id, start_time=10, status="RUNNING"),
        data=SimpleNamespace(tags={JOURNAL_TAG: journal}, metrics=dict.fromkeys(metrics, 0.0)),
    )


@pytest.fixture
def journals(tmp_path):
    """A folder with the journal of a live training, one that is left, and a delivered one."""
    made = [Journal(tmp_path / "journal" / f"{name}.jsonl") for name in ("live", "left", "done")]
    for journal in made:
        journal.acquire()
        journal.append({"act": "start", "store": "s", "folder": str(tmp_path)})
    made[1].release()
    made[2].retire()
    yield tmp_path / "journal"
    made[0].release()


def test_runs_whose_journals_are_lost_end_when_they_were_last_heard_of(journals):
    runs = [run("a", "gone", ["loss", "acc"]), run("b", "live", ["loss"]), run("c", "gone too")]
    client = Client(journals, [*runs, run("d", "left"), run("e", "done")])
    assert end_stale_runs(client, "7", journals) == ["a", "c", "e"]
    assert client.ended == [("a", "KILLED", 40), ("c", "KILLED", 10), ("e", "KILLED", 10)]


def test_a_run_that_ends_meanwhile_keeps_its_status(journals):
    """Its training deletes the journal between the two looks."""
    client = Client(journals, [run("a", "gone")])
    found = client.search_runs

    def search(*query):
        runs = found(*query)
        client.runs["a"] = SimpleNamespace(
            info=SimpleNamespace(run_id="a", status="FINISHED"), data=runs[0].data
        )
        return runs

    client.search_runs = search
    assert end_stale_runs(client, "7", journals) == []
    assert client.ended == []
