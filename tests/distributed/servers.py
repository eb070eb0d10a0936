"""Real tracking servers that can be killed and started again on the same port."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.distributed.forks import Fork
from tests.waiting import wait_until

POSTGRES = Path("/usr/lib/postgresql/15/bin")  # Debian's package postgresql-15


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


# Its second process, which imports MLflow once more, is the first one.
SERVE = """
import mlflow.cli, mlflow.server, os, uvicorn

def serve(command, extra_env, **_):
    os.environ.update(extra_env)
    uvicorn.main(command[command.index("uvicorn") + 1 :])

mlflow.server._exec_cmd = serve
mlflow.cli.cli({arguments})
"""


class Server:
    """`mlflow server` on a port of its own; files go through it (`proxied`), or past it."""

    def __init__(self, folder, backend=None, proxied=False, host="127.0.0.1"):
        self.port = free_port()
        self._host = host
        self.address = f"http://{host}:{self.port}"
        self._folder = folder
        self._backend = backend or f"sqlite:///{folder}/server.db"
        self._files = "--artifacts-destination" if proxied else "--default-artifact-root"
        self._log = folder / "server.log"
        self._process = None

    def start(self, wait=True):
        arguments = ["server", "--workers", "1", "--host", self._host, "--port", str(self.port)]
        arguments += ["--allowed-hosts", f"{self._host}:{self.port}"]
        arguments += ["--backend-store-uri", self._backend]
        arguments += [self._files, f"{self._folder}/artifacts"]
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        code = SERVE.format(arguments=arguments)
        self._process = Fork(code, self._folder, self._log, os.environ | quiet)
        if wait:
            wait_until(self.answers, what=f"no server, see {self._log}")

    def abandoned(self):
        """Return the connections with requests that it has, and whose sender has gone."""
        return [
            one
            for one in psutil.net_connections("tcp")
            if one.laddr and one.laddr.port == self.port and one.status == psutil.CONN_CLOSE_WAIT
        ]

    def kill(self):
        """Kill -9 the server."""
        if self._process:
            self._process.kill()
            self._process = None

    def stop(self):
        """Let it hang: it accepts connections and answers nothing."""
        self._process.send(signal.SIGSTOP)

    def go_on(self):
        self._process.send(signal.SIGCONT)

    def answers(self):
        if self._process is None:
            return False  # it was killed and is not started yet
        assert self._process.lives(), self._log.read_text()
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False


class Postgres:
    """A PostgreSQL cluster in a folder of its own; it runs as `postgres` where we are root."""

    def __init__(self):
        self.port = free_port()
        self.uri = f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/postgres"
        self._folder = Path(tempfile.mkdtemp(prefix="convoy-postgres-"))  # others may look into it
        self._data = self._folder / "data"
        self._process = None
        self._as_user = []
        if os.geteuid() == 0:
            self._as_user = ["runuser", "-u", "postgres", "--"]
            shutil.chown(self._folder, "postgres")
        self._run(["initdb", "-D", self._data, "-A", "trust", "-U", "postgres", "--no-sync"])

    def start(self):
        serve = ["postgres", "-D", self._data, "-p", str(self.port), "-h", "127.0.0.1"]
        serve += ["-k", "", "-c", "fsync=off"]
        self._process = subprocess.Popen(
            self._command(serve), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
        )
        ask = ["pg_isready", "-h", "127.0.0.1", "-p", str(self.port)]
        wait_until(lambda: self._run(ask, check=False) == 0, what="no PostgreSQL")

    def kill(self):
        """Kill -9 the server; those who work for it notice and go."""
        if self._process:
            master = int((self._data / "postmaster.pid").read_text().splitlines()[0])
            os.kill(master, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def remove(self):
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _command(self, command):
        return [*self._as_user, POSTGRES / command[0], *command[1:]]

    def _run(self, command, check=True):
        return subprocess.run(
            self._command(command), check=check, capture_output=True, cwd="/"
        ).returncode


class Hanging:
    """Accepts connections on a port and never answers."""

    def __init__(self, port):
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", port))
        self._socket.listen(100)

    def close(self):
        self._socket.close()


@contextmanager
def slow_way_to(server, delay_s, missed=None):
    """Yield the address of a proxy that hands each request on after a delay.

    Args:
        server: that gets them.
        delay_s: of each piece.
        missed: an event that is set when a request has found no server.
    """
    missed = missed or threading.Event()
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen(100)
        threading.Thread(
            target=_let_in, args=(door, server.port, delay_s, missed), daemon=True
        ).start()
        yield f"http://127.0.0.1:{door.getsockname()[1]}"


def _let_in(door, port, delay_s, missed):
    while True:
        try:
            guest, _ = door.accept()
        except OSError:
            return
        try:
            host = socket.create_connection(("127.0.0.1", port))
        except OSError:  # the server is away
            missed.set()
            guest.close()
            continue
        for source, target, wait_s in ((guest, host, delay_s), (host, guest, 0.0)):
            threading.Thread(target=_hand_on, args=(source, target, wait_s), daemon=True).start()


def _hand_on(source, target, wait_s):
    with suppress(OSError):
        while piece := source.recv(1 << 16):
            time.sleep(wait_s)
            target.sendall(piece)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
