import os
import signal
import sys
import threading

import pytest

from pipeline.errors import PipelineError
from pipeline.progress import BAR_MARK
from pipeline.runtime.jobs import follow as module
from pipeline.runtime.jobs.follow import DetachedError, _Log, follow
from pipeline.runtime.ray.job_server import ServerAwayError
from tests.job_server import FakeServer, ended

LOG = "one\ntwo\n\nthree\n"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(module, "_POLL_S", 0.0)
    fake = FakeServer()
    fake.log = LOG
    fake.states["convoy-x"] = ended("convoy-x", "RUNNING")
    return fake


@pytest.fixture
def clock_s(monkeypatch):
    """Time passes in the waits alone."""
    now_s = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(module.time, "sleep", lambda s: now_s.__setitem__(0, now_s[0] + s))
    monkeypatch.setattr(module, "_POLL_S", 0.5)
    return now_s


class Streams:
    """A log whose stream begins again, each time from the first line."""

    def __init__(self, *streams):
        self.streams = list(streams)

    def tail(self, job, take, over):
        assert job == "convoy-x"
        for text in self.streams.pop(0):
            take(text)
        if not self.streams:
            over.set()


def shown(*streams, rest=""):
    log, over = _Log(), threading.Event()
    over.wait = lambda _: None  # no pause between two streams
    log.read(Streams(*streams), "convoy-x", over)
    log.rest(rest)
    log.end(over)


@pytest.mark.parametrize(
    "streams",
    [
        [[LOG]],
        [["one\nt", "wo", "\n", "\nthr", "ee\n"]],
        [["one\ntw"], ["one\ntwo\n\n"], ["one\n", "two\n\nth"], [LOG]],
        [list(LOG)],
        [[], ["o"], []],
    ],
    ids=["at once", "cut within lines", "begun again", "by characters", "rest alone"],
)
def test_each_line_is_shown_once(streams, capsys):
    shown(*streams, rest=LOG)
    assert capsys.readouterr() == (LOG, "")


def test_a_last_line_without_an_end(capsys):
    shown(["one\nt"], rest="one\ntwo")
    assert capsys.readouterr().out == "one\ntwo\n"


def test_an_empty_log(capsys):
    shown([], rest="")
    assert capsys.readouterr() == ("", "")


def test_separators_within_a_line_do_not_count(capsys):
    text = "a\x0cb\x85c\u2028d\nlast\n"
    shown(["a\x0cb"], [text[:-3]], rest=text)
    assert capsys.readouterr().out == text


def test_what_the_sender_and_ray_say_is_left_out(capsys):
    shown(
        ["2026-11-22 02:00:00,000\tINFO job_manager.py:531 -- Runtime env is setting up.\n"],
        rest="2026-11-22 02:00:00,000\tINFO job_manager.py:531 -- Runtime env is setting up.\n"
        "Running entrypoint for job convoy-x: python -m pipeline job\nseen\nconvoy: a mistake\n",
    )
    assert capsys.readouterr().out == "seen\n"


BAR = "begin\n" + "".join(f"{BAR_MARK}train {n}0%\n" for n in (1, 2, 3)) + "end\n"


def test_states_of_a_bar_are_some_lines_of_a_log(capsys, clock_s, monkeypatch):
    def pass_time(self, line, show=_Log._print):
        clock_s[0] += 1.5
        show(self, line)

    monkeypatch.setattr(_Log, "_print", pass_time)
    shown([BAR], rest=BAR)
    assert capsys.readouterr() == ("begin\nend\n", "train 10%\ntrain 30%\n")


def test_and_one_line_of_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "11")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown([BAR], rest=BAR)
    out, err = capsys.readouterr()
    assert out == "begin\nend\n"
    assert err.startswith("\rtrain 10% \rtrain 20% \rtrain 30% \r          \r")


def test_a_job_is_followed_to_its_end(server, capsys):
    server.fates = [lambda job: ended(job, "RUNNING"), lambda job: ended(job, "FAILED", 1)]
    assert follow(server, "convoy-x") == ended("convoy-x", "FAILED", 1)
    assert capsys.readouterr() == (LOG, "")


def test_one_that_the_server_does_not_know(server):
    assert follow(server, "convoy-y") is None


def test_a_server_that_is_away_is_asked_again(server, clock_s, capsys):
    away = [ServerAwayError("refused")] * 20 + [PipelineError("answers: 503")] * 3
    known, state = server.state, ended("convoy-x", "SUCCEEDED", 0)

    def ask(job):
        if away:
            raise away.pop()
        server.states[job] = state
        return known(job)

    server.state = ask
    assert follow(server, "convoy-x") == state
    assert capsys.readouterr() == (
        LOG,
        "http://head:8265 does not answer; tries again for 180 s\n",
    )


def test_and_detaches_in_the_end(server, clock_s):
    def ask(_):
        raise ServerAwayError("connection refused")

    server.state = ask
    with pytest.raises(
        DetachedError,
        match=r"the connection is lost \(connection refused\); the job convoy-x may go on: the same"
        r" command joins it, convoy jobs --follow convoy-x shows it",
    ):
        follow(server, "convoy-x")
    assert 180 < clock_s[0] < 182


@pytest.fixture
def interrupted(server):
    """A job that runs while a signal comes, and whose log is silent for long."""
    silent = threading.Event()
    server.tail = lambda *_: silent.wait(30)

    def interrupt(number):
        server.fates = [lambda job: os.kill(os.getpid(), number) or ended(job, "RUNNING")]
        return server

    yield interrupt
    silent.set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_detaches_at_once_where_no_one_can_answer(interrupted, number):
    server = interrupted(number)
    with pytest.raises(
        DetachedError, match=r"detached; the job convoy-x goes on: the same command"
    ):
        follow(server, "convoy-x")
    assert server.stopped == []


@pytest.mark.parametrize(("answer", "stops"), [("s\n", True), ("d\n", False), ("", False)])
def test_on_a_terminal_it_asks(interrupted, monkeypatch, capsys, answer, stops):
    server = interrupted(signal.SIGINT)
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdin, "readline", lambda: answer)
    with pytest.raises(PipelineError, match="is stopped; the same" if stops else "^detached; "):
        follow(server, "convoy-x")
    assert server.stopped == (["convoy-x"] if stops else [])
    assert capsys.readouterr().err.count("stop the job convoy-x (s), or detach") == 1
