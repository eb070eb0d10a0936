import io
import re
import sys
import threading

import pytest

from pipeline import progress
from pipeline.progress import command_clock, progress_bar, watched
from tests.waiting import wait_until

# As they are: the other tests change them.
KNOWN = {name: getattr(progress, name) for name in ("_FIRST_S", "_LINE_S", "_MOST_S")}


class Console(io.StringIO):
    """What is written to stderr, on a terminal or not."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal

    def wait_for(self, pattern, times=1):
        wait_until(lambda: len(re.findall(pattern, self.getvalue())) >= times, 20, f"for {pattern}")


@pytest.fixture
def console(monkeypatch):
    for name in ("_FIRST_S", "_LINE_S", "_DRAWN_S"):
        monkeypatch.setattr(progress, name, 0.02)

    def opened(terminal):
        found = Console(terminal)
        monkeypatch.setattr(sys, "stderr", found)
        return found

    return opened


def test_a_log_gets_lines_while_one_step_takes_long(console):
    stderr = console(terminal=False)
    with progress_bar(4, "trying views", "view") as bar:
        bar.update()
        stderr.wait_for(r"trying views: +25%\|.*\| 1/4 \[.*<.*\]\n", times=3)
        bar.update(3)
    assert stderr.getvalue().endswith("\n")
    assert re.search(r"trying views: 100%\|.*\| 4/4 ", stderr.getvalue().splitlines()[-1])
    assert "\r" not in stderr.getvalue()


def test_a_terminal_gets_one_line(console):
    stderr = console(terminal=True)
    with progress_bar(None, "t-SNE", "step") as bar:
        bar.update(7)
        stderr.wait_for(r"\rt-SNE: 7step \[")
        bar.say("a line")
    lines = stderr.getvalue().split("\n")
    assert [line.rpartition("\r")[2].rstrip() for line in lines[:1]] == ["a line"]
    assert lines[1].rpartition("\r")[2].startswith("t-SNE: 8step [")
    assert lines[2:] == [""]


def test_what_ends_soon_is_not_shown(console, monkeypatch):
    monkeypatch.setattr(progress, "_FIRST_S", 60.0)
    stderr = console(terminal=False)
    assert list(watched([[1, 2], [3]], 3, "quick")) == [[1, 2], [3]]
    assert stderr.getvalue() == ""


def test_an_error_ends_the_bar(console):
    stderr = console(terminal=False)
    with pytest.raises(ValueError, match="wrong"), progress_bar(2, "work"):
        stderr.wait_for("work:")
        raise ValueError("wrong")
    assert not [one for one in threading.enumerate() if "show_until" in one.name]


def test_lines_of_long_work_stand_further_apart(monkeypatch):
    """After 20 minutes a line each 30 s, after 2 minutes each 6 s, at first each 2.5 s."""
    waits, now = [], [0.0]
    for name, value in KNOWN.items():
        monkeypatch.setattr(progress, name, value)

    class Clock:
        def wait(self, seconds):
            waits.append(seconds)
            now[0] += seconds
            return now[0] > 1500

    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(sys, "stderr", Console(terminal=False))
    progress.Bar(None, "work", "step").show_until(Clock())
    assert waits[:20] == [1.0] + [2.5] * 19
    assert max(waits) == waits[-1] == 30.0
    begins = [sum(waits[:place]) for place in range(len(waits))]
    for begin, wait in zip(begins[20:], waits[20:], strict=True):
        assert wait == pytest.approx(min(max(2.5, 0.05 * begin), 30.0))


def test_a_command_shows_its_clock_while_no_bar_shows_anything(console):
    stderr = console(terminal=False)
    with command_clock("evaluate"):
        stderr.wait_for(r"evaluate: 0 s\n", times=2)
