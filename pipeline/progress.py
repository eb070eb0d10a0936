"""Progress of long work on stderr: a bar on a terminal, lines in a log."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

from pipeline.threads import in_background

S = TypeVar("S", bound=Sized)

# In the environment of a job, whose log is shown elsewhere: there each state of a bar is a line.
RELAYED = "CONVOY_JOB"
# Begins such a line. Ray's job server turns a carriage return into the end of a line.
BAR_MARK = "\x1f"
_RELAYED_S = 1.0

_FIRST_S = 1.0  # work that ends sooner is not shown
_DRAWN_S = 0.2  # between two states of a bar
# Between two lines of a log; those of long work stand further apart, by this share of its time.
_LINE_S, _SHARE, _MOST_S = 2.5, 0.05, 30.0


class Bar:
    """Counts what is done, and shows it."""

    next_s = 0.0  # by the clock, when a bar shows something again

    def __init__(self, total: int | None, label: str, unit: str) -> None:
        """Begin to count; see `progress_bar`."""
        self._total, self._label, self._unit = total, label, unit
        self._begin, self._done, self._shown = time.monotonic(), 0, False
        self._terminal = sys.stderr.isatty()
        self._relayed = RELAYED in os.environ

    def update(self, n: int = 1) -> None:
        """Count `n` more."""
        self._done += n

    def say(self, text: str) -> None:
        """Write a line above the bar, and count it."""
        self.update()
        columns = shutil.get_terminal_size().columns - 1
        print(f"\r{text.ljust(columns)}" if self._terminal else text, file=sys.stderr, flush=True)

    def show_until(self, ended: threading.Event) -> None:
        """Show how far the work is, again and again, until it has ended."""
        wait_s = _FIRST_S
        while not ended.wait(wait_s):
            spent_s = self._show()
            wait_s = _DRAWN_S if self._terminal else _between_lines(spent_s)
            wait_s = _RELAYED_S if self._relayed else wait_s
            Bar.next_s = time.monotonic() + max(wait_s, _LINE_S)
        if self._shown:
            self._show()
            if self._terminal:
                print(file=sys.stderr)

    def _show(self) -> float:
        spent_s = time.monotonic() - self._begin
        columns = shutil.get_terminal_size().columns - 1 if self._terminal else None
        text = tqdm.format_meter(
            self._done,
            self._total or 0,  # which counts without an end
            spent_s,
            ncols=columns,
            prefix=self._label,
            unit=self._unit,
            ascii=not self._terminal,
        )
        # A shorter text than the one before leaves nothing of it.
        drawn = f"\r{text.ljust(columns)}" if columns else relayed(text) + "\n"
        print(drawn, end="", file=sys.stderr, flush=True)
        self._shown, Bar.next_s = True, time.monotonic() + _LINE_S
        return spent_s


def relayed(text: str) -> str:
    """Return a state of a bar as a line of a log; who shows a job's log knows it by its mark."""
    return f"{BAR_MARK}{text}" if RELAYED in os.environ else text


def _between_lines(spent_s: float) -> float:
    return min(max(_LINE_S, _SHARE * spent_s), _MOST_S)


@contextmanager
def progress_bar(total: int | None, label: str, unit: str = "img") -> Iterator[Bar]:
    """Show how far work is, and how long the rest takes, until the block ends.

    The clock goes on within a step, so that a long one does not look like a stop.

    Args:
        total: of the work; None where it is not known.
        label: what the work is.
        unit: what is counted.
    """
    bar = Bar(total, label, unit)
    with in_background(bar.show_until):
        yield bar


@contextmanager
def command_clock(label: str) -> Iterator[None]:
    """Show how long a command has taken, whenever no bar shows anything."""
    begin, end = time.monotonic(), "\r" if sys.stderr.isatty() else "\n"

    def show_until(ended: threading.Event) -> None:
        Bar.next_s = begin + _LINE_S
        while not ended.wait(_DRAWN_S):
            if (now := time.monotonic()) >= Bar.next_s:
                print(f"{label}: {now - begin:.0f} s", end=end, file=sys.stderr, flush=True)
                Bar.next_s = now + _between_lines(now - begin)

    with in_background(show_until):
        yield


def watched(batches: Iterable[S], total: int, label: str, unit: str = "img") -> Iterator[S]:
    """Yield the batches of `total` images, or what `unit` names, while a bar follows."""
    with progress_bar(total, label, unit) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))
