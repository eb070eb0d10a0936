"""A job as its sender sees it: its log as it comes, its state, and Ctrl-C."""

import shutil
import sys
import threading
import time
from concurrent.futures import wait
from contextlib import suppress

from pipeline.errors import PipelineError
from pipeline.progress import BAR_MARK, Bar
from pipeline.runtime.ray.job_server import JobServer, JobState
from pipeline.runtime.session.interrupts import sigterm_interrupts
from pipeline.threads import in_daemon

_POLL_S = 0.5
_PATIENCE_S = 180.0  # with a server that does not answer: a head may restart
_SILENCE_S = 3.0
_LAST_S = 1.0  # for the lines that are under way
_BAR_LINE_S = 2.5  # between two states of a bar where no one watches


class DetachedError(PipelineError):
    """Nobody follows the job any more; it goes on."""


def follow(server: JobServer, job: str) -> JobState | None:
    """Show what a job prints until it has ended.

    Ctrl-C asks once, on a terminal, whether to detach or to stop; else it detaches. So do SIGTERM
    and a server that stays away.

    Returns:
        How it ended; None where the server no longer knows it, since it was started afresh.

    Raises:
        DetachedError: the job goes on.
        PipelineError: it was stopped on demand.
    """
    log, ended = _Log(), threading.Event()
    reading = in_daemon(lambda: log.read(server, job, ended))
    try:
        with sigterm_interrupts():
            state = _wait(server, job)
            ended.set()
            wait([reading], _LAST_S)  # a stream of which nothing comes ends some seconds later
        with suppress(PipelineError):
            log.rest(server.logs(job))
    except KeyboardInterrupt:
        log.end(ended)
        raise _interrupted(server, job) from None
    finally:
        log.end(ended)
    return state


def _wait(server: JobServer, job: str) -> JobState | None:
    away_s: float | None = None
    said = False
    while True:
        try:
            state = server.state(job)
        except PipelineError as error:  # a head that starts again first answers by errors
            now_s = time.monotonic()
            away_s = now_s if away_s is None else away_s
            if now_s - away_s > _PATIENCE_S:
                raise DetachedError(
                    f"the connection is lost ({error}); the job {job} may go on: {_joins(job)}"
                ) from error
            if now_s - away_s > _SILENCE_S and not said:
                said = True
                print(
                    f"{server.address} does not answer; tries again for {_PATIENCE_S:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )
        else:
            if state is None or not state.running:
                return state
            away_s, said = None, False
        time.sleep(_POLL_S)


def _interrupted(server: JobServer, job: str) -> PipelineError:
    """Detach or stop, as the user says."""
    stop = False
    if sys.stdin.isatty() and sys.stderr.isatty():
        question = f"\nstop the job {job} (s), or detach and let it go on (d, the default)? "
        try:
            print(question, end="", file=sys.stderr, flush=True)
            stop = sys.stdin.readline().strip().lower().startswith("s")
        except KeyboardInterrupt:
            pass
    if not stop:
        return DetachedError(f"detached; the job {job} goes on: {_joins(job)}")
    server.stop(job)
    return PipelineError(
        f"the job {job} is stopped; the same command runs it again, a training from its last"
        " checkpoint"
    )


def _joins(job: str) -> str:
    return f"the same command joins it, convoy jobs --follow {job} shows it"


class _Log:
    """Prints each line of a job's log once, however often its stream begins again."""

    def __init__(self) -> None:
        self._printed = 0
        self._part = ""
        self._bar = False
        self._bar_s = float("-inf")
        self._turn = threading.Lock()

    def read(self, server: JobServer, job: str, ended: threading.Event) -> None:
        """Print lines as they come, until `ended`."""
        while not ended.is_set():
            position, self._part = 0, ""

            def take(text: str) -> None:
                nonlocal position
                *lines, self._part = (self._part + text).split("\n")
                for line in lines:
                    position += 1
                    with self._turn:
                        if position > self._printed and not ended.is_set():
                            self._printed = position
                            self._print(line)

            server.tail(job, take, ended)
            ended.wait(1.0)

    def rest(self, text: str) -> None:
        """Print what has not been printed of the whole log."""
        with self._turn:
            *lines, part = text.split("\n")
            for line in [*lines, *filter(None, [part])][self._printed :]:
                self._print(line)

    def end(self, ended: threading.Event) -> None:
        """Print no more lines as they come, and leave the bar where it is."""
        with self._turn:
            ended.set()
            if self._bar:
                self._bar = False
                print(file=sys.stderr, flush=True)

    def _print(self, line: str) -> None:
        """Print a line; one that begins with the mark of a bar is its state."""
        if line.startswith("convoy: "):
            return  # the mistake that ended it, which its sender says
        if "job_manager.py:" in line or line.startswith("Running entrypoint for job"):
            return  # Ray's own, at the head of each log
        Bar.next_s = time.monotonic() + _SILENCE_S
        terminal = sys.stderr.isatty()
        columns = shutil.get_terminal_size().columns - 1
        if line.startswith(BAR_MARK):
            now_s = time.monotonic()
            if terminal:
                text = line[1:][:columns].ljust(columns)
                print(f"\r{text}", end="", file=sys.stderr, flush=True)
                self._bar = True
            elif now_s - self._bar_s > _BAR_LINE_S:
                self._bar_s = now_s
                print(line[1:], file=sys.stderr, flush=True)
            return
        if self._bar:
            print(f"\r{' ' * columns}\r", end="", file=sys.stderr, flush=True)
        print(line, flush=True)
