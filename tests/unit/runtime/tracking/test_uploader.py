"""The thread alone, with a store whose answers are written down."""

import threading
import time

import pytest

from pipeline.params import load_params
from pipeline.runtime.tracking import uploader as module
from pipeline.runtime.tracking.journal import Journal
from pipeline.runtime.tracking.replay import StoreAwayError, StoreBusyError
from pipeline.runtime.tracking.uploader import Uploader
from tests.contract.imports import ROOT
from tests.waiting import wait_until

AWAY, BUSY = StoreAwayError("nobody"), StoreBusyError("not now")


class Replay:
    """Answers one delivery after the other with an error, None or an event to wait for."""

    answers = ()
    uri = "http://host"

    def __init__(self, _tracking, _say):
        self.left, self.answered_s = list(self.answers), time.monotonic()

    def settle_left(self, _journals):
        return iter([])

    def deliver(self, journal):
        answer = self.left.pop(0) if self.left else None
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            answer.wait(10)
        if not journal.acquire():
            raise StoreAwayError("another process is delivering them")
        journal.delivered = len(journal.entries)


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal" / "train-1.jsonl")
    assert journal.acquire()
    journal.append({"act": "start", "store": "http://host", "time_ms": 1, "folder": ""})
    yield journal
    journal.release()


@pytest.fixture
def make(journal, monkeypatch):
    """Return a function that makes an uploader with given answers."""
    for name, seconds in {"PAUSE": 0.01, "LAST_PAUSE": 0.01, "PATIENCE": 0.3}.items():
        monkeypatch.setattr(module, f"_{name}_S", seconds)
    monkeypatch.setattr(module, "_LIMIT_S", 0.6)
    monkeypatch.setattr(module, "load_mlflow", lambda: None)
    monkeypatch.setattr(module, "Replay", type("Written", (Replay,), {}))

    def make(*answers):
        module.Replay.answers = answers
        return Uploader(load_params(ROOT / "params.yaml").tracking, journal)

    return make


def test_nothing_is_said_where_all_goes_well_or_fails_in_passing(make, journal, capsys):
    uploader = make(BUSY, None)
    assert uploader.finish()
    assert journal.waiting == 0
    uploader.close()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("failures", [[AWAY, AWAY], [BUSY, BUSY], [ValueError("odd"), AWAY]])
def test_a_store_that_is_away_is_reported_once_and_its_return_too(make, journal, capsys, failures):
    uploader = make(*failures, None)
    wait_until(lambda: journal.delivered)
    assert uploader.finish()
    uploader.close()
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("warning: training goes on; records wait in")
    assert second == "tracking: the MLflow store at http://host answers again"


def test_what_comes_while_it_waits_is_delivered(make, journal):
    uploader = make()
    wait_until(lambda: journal.delivered == 1)
    journal.append({"act": "tags", "values": {}})
    wait_until(lambda: journal.delivered == 2)
    uploader.close()


def test_the_end_waits_for_a_store_that_is_away_as_long_as_patience_lasts(make):
    uploader = make(*[AWAY] * 1000)
    wait_until(lambda: uploader._failures > 1)
    start_s = time.monotonic()
    assert not uploader.finish()
    assert 0.3 <= time.monotonic() - start_s < 2
    assert uploader.reason == "nobody"
    uploader.close()


def test_one_that_has_not_failed_is_waited_for_longer(make):
    answer = threading.Event()
    uploader = make(answer)
    start_s = time.monotonic()
    assert not uploader.finish()
    assert 0.6 <= time.monotonic() - start_s < 2
    answer.set()
    uploader.close()


def test_one_that_waits_for_an_answer_gives_the_journal_back_when_it_has_it(make, journal):
    answer = threading.Event()
    uploader = make(answer)
    assert not uploader.finish()
    uploader.close()
    same = Journal(journal.path)
    assert not same.acquire()
    answer.set()
    wait_until(same.acquire)
    same.read()
    assert len(same.entries) == 1
    same.release()


def test_a_journal_that_another_process_delivers_is_waited_for(make, journal, capsys):
    journal.release()
    other = Journal(journal.path)
    assert other.acquire()
    uploader = make()
    wait_until(lambda: uploader._failures > 1)
    assert "another process is delivering them" in capsys.readouterr().err
    other.release()
    assert uploader.finish()
    uploader.close()
