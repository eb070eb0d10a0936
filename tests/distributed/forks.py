"""Processes that start at once: forks of one that has imported MLflow, which takes seconds."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from functools import cache

import psutil

from tests.contract.imports import ROOT
from tests.waiting import wait_until

FORKING = f"""
import json, os, signal, sys, traceback
sys.path.insert(0, {str(ROOT)!r})
import mlflow.cli, mlflow.server.fastapi_app, uvicorn
import tests.distributed.tracking.recording
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that end leave no zombies
for line in sys.stdin:
    code, folder, log, environment = json.loads(line)
    if pid := os.fork():
        print(pid, flush=True)
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for output in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), output)
    try:
        exec(code)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(0)  # to clear away all that was imported takes seconds
"""
_turn = threading.Lock()


@cache
def _forking():
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORKING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
        text=True,
        start_new_session=True,
    )


class Fork:
    """A process that runs code in a folder; what it prints goes to the file `log`."""

    def __init__(self, code, folder, log, environment=os.environ):
        task = json.dumps([code, str(folder), str(log), dict(environment)])
        with _turn:
            print(task, file=_forking().stdin, flush=True)
            self._pid = int(_forking().stdout.readline())

    def lives(self):
        return psutil.pid_exists(self._pid)

    def wait(self, patience_s=60):
        wait_until(lambda: not self.lives(), patience_s, f"for the end of process {self._pid}")

    def kill(self):
        self.send(signal.SIGKILL)
        self.wait()

    def send(self, number):
        with suppress(ProcessLookupError):
            os.kill(self._pid, number)
