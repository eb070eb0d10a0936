"""Commands of DVC and git as processes that belong to a call."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from pipeline.errors import MISTAKE, PipelineError
from pipeline.runtime.retraining.dvc_files import DvcFiles

# In the environment of all processes that a call starts.
CALL = "CONVOY_RETRAIN"
_POLL_S = 0.2
_GONE_S = 30.0
_GRACE_S = 10.0  # in which an interrupted training saves a checkpoint


class Workflow:
    """Runs commands for one call."""

    def __init__(self, call: str, check: Callable[[], object], dvc_lock: Path) -> None:
        """Take whom they belong to.

        Args:
            call: its id.
            check: raises when the call must not go on.
            dvc_lock: where a copy of dvc.lock is kept.
        """
        self._call, self._check = call, check
        self._files = DvcFiles(dvc_lock)

    def repro(self, *words: str, quiet: bool = False) -> None:
        """Run `dvc repro`.

        Args:
            words: options and stages.
            quiet: whether its output is not shown.

        Raises:
            PipelineError: it failed; says why, where a command of ours did.
        """
        if mended := self._files.mend():
            print(f"retrain: {mended}", flush=True)
        with TemporaryDirectory(prefix="convoy-retrain-") as folder:
            mistake = Path(folder) / "mistake"
            process = subprocess.Popen(
                _dvc("repro", *words),
                env=self._environment() | {MISTAKE: str(mistake)},
                stdout=subprocess.DEVNULL if quiet else None,
                stderr=subprocess.DEVNULL if quiet else None,
            )
            try:
                while process.poll() is None:
                    self._check()
                    self._files.keep()
                    time.sleep(_POLL_S)
            except PipelineError:
                end_processes(self._call)
                raise
            except KeyboardInterrupt:
                # A terminal has interrupted it too, a scheduler perhaps not.
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_GRACE_S)
                end_processes(self._call)
                raise
            self._files.keep()
            if process.returncode:
                said = mistake.read_text(encoding="utf-8") if mistake.exists() else ""
                raise PipelineError(
                    f"dvc repro failed: {said or ('' if quiet else 'its output says why')}"
                    f"{'' if said else f' (exit code {process.returncode})'}"
                )

    def dvc(self, *words: str) -> tuple[int, str]:
        """Run another command of DVC; return its exit code and what it printed."""
        return self._quiet(_dvc(*words))

    def git(self, *words: str) -> tuple[int, str]:
        """Run a command of git; return its exit code and what it printed."""
        return self._quiet(["git", *words])

    def _quiet(self, command: Sequence[str]) -> tuple[int, str]:
        done = subprocess.run(
            command,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="backslashreplace",
            check=False,
        )
        self._check()
        return done.returncode, done.stdout

    def _environment(self) -> dict[str, str]:
        # A scheduler starts this by its whole path; dvc.yaml names the command alone.
        programs = str(Path(sys.executable).parent)
        path = os.pathsep.join((programs, os.environ.get("PATH", os.defpath)))
        return os.environ | {CALL: self._call, "PATH": path}


def _dvc(*words: str) -> list[str]:
    return [sys.executable, "-m", "dvc", *words]


def end_processes(call: str) -> int:
    """Kill what a call has started on this machine and left running; return how many there were.

    A killed call leaves its `dvc repro` behind, which holds the lock of DVC.
    """
    ended = 0
    deadline_s = time.monotonic() + _GONE_S
    # Again, until none is found: one may start another before it is killed.
    while (left := _started_by(call)) and time.monotonic() < deadline_s:
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=_GONE_S)
        ended += len(left)
    return ended


def _started_by(call: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(CALL) == call:
                found.append(process)
    return found
