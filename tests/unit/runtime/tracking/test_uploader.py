"""The thread alone, with a store whose answers are written down."""

import threading
import time
from dataclasses import replace

import pytest

from pipeline.params import load_params
from pipeline.runtime.tracking import uploader as module
from pipeline.runtime.tracking.journal import Spool
from pipeline.runtime.tracking.replay import Count, Settled, StoreAwayError
from pipeline.runtime.tracking.uploader import Courier, told
from tests.contract.imports import ROOT

AWAY, BUSY = StoreAwayError("nobody"), StoreAwayError("not now", answers=True)


class Delivery:
    """Answers one delivery after the other with an error, None or an event to wait for."""

    answers = ()
    uri = "http://host"

    def __init__(self, _tracking, _say):
        self.left = list(self.answers)

    def settle_left(self, _spools):
        return iter([])

    def mend(self, _spools, _own):
        return []

    def deliver(self, spool, position, progress):
        answer = self.left.pop(0) if self.left else None
        if isinstance(answer, Exception):
            raise answer
        if answer is not None:
            answer.wait(10)
        progress(replace(position, offset=spool.path.stat().st_size))

    def settle(self, _spool, _position, _progress):
        return Count(1, 1)


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Return a function that makes a courier with given answers."""
    for name, seconds in {"FIRST_PAUSE": 0.01, "LAST_PAUSE": 0.01, "PATIENCE": 0.3}.items():
        monkeypatch.setattr(module, f"_{name}_S", seconds)
    monkeypatch.setattr(module, "load_mlflow", lambda: None)
    monkeypatch.setattr(module, "Delivery", type("Written", (Delivery,), {}))
    spool = Spool(tmp_path / "spool" / "train-1.jsonl")
    assert spool.acquire()
    spool.append({"act": "create", "store": "http://host", "time_ms": 1})

    def make(*answers):
        module.Delivery.answers = answers
        return Courier(load_params(ROOT / "params.yaml").tracking, spool)

    yield make
    spool.release()


def wait_until(true):
    deadline_s = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_nothing_is_said_where_all_goes_well_or_fails_in_passing(make, capsys):
    courier = make(BUSY, None)
    assert courier.finish()
    assert courier.count == Count(1, 1)
    assert not courier.was_away
    assert courier.close()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("failures", [[AWAY, AWAY], [BUSY, BUSY], [ValueError("odd"), AWAY]])
def test_a_store_that_is_away_is_told_once_and_its_return_too(make, capsys, failures):
    courier = make(*failures, None)
    wait_until(lambda: courier.position.offset)
    wait_until(lambda: not courier.was_away)
    assert courier.finish()
    courier.close()
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("warning: training goes on; records wait in")
    assert second == "tracking: the MLflow store at http://host answers again"


def test_the_end_waits_for_a_store_that_is_away_as_long_as_patience_lasts(make):
    courier = make(*[AWAY] * 1000)
    start_s = time.monotonic()
    assert not courier.finish()
    assert 0.3 <= time.monotonic() - start_s < 2
    assert courier.reason == "nobody"
    assert courier.close()


def test_one_that_waits_for_an_answer_gives_the_spool_back_when_it_has_it(make, tmp_path):
    answer = threading.Event()
    courier = make(answer)
    assert not courier.finish()
    assert not courier.close()
    same = Spool(tmp_path / "spool" / "train-1.jsonl")
    assert not same.acquire()
    answer.set()
    assert same.acquire(5)
    assert courier.position.offset == 0  # what it has not kept is delivered again
    same.release()


def test_what_is_said_of_a_spool():
    settled = Settled("train-1", "abc", 7, Count(5, 5))
    assert told(settled) == "7 records of train-1 delivered to run abc, which has 5 of 5 values"
