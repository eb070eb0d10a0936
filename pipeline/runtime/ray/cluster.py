"""A connection to a Ray cluster, or a cluster of this machine's cores, made in the background."""

import atexit
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import PipelineError
from pipeline.params import Resources
from pipeline.runtime.ray.capacity import Amounts, count_fitting
from pipeline.runtime.ray.demand import Demand, in_use, state_demand
from pipeline.runtime.ray.processes import ClusterProcesses
from pipeline.runtime.ray.token import show_token
from pipeline.threads import in_daemon

T = TypeVar("T")

_WAIT_FOR_OTHERS_S = 20.0
# The cluster had enough when its job was sent. After a restart of the head, nodes join one by one.
_WAIT_FOR_NODES_S = 120.0
_POLL_S = 0.5
_LOGS = "/tmp/ray/session_latest/logs"  # noqa: S108


class Cluster:
    """A cluster that is being joined or started; the first question waits until it answers.

    Attributes:
        resources: as in params.yaml.
        private: whether it is this process's own and ends with it.
    """

    def __init__(self, resources: Resources) -> None:
        """Start to connect. It takes some seconds, most of them in other processes."""
        self.resources = resources
        self.private = resources.address is None
        _set_environment(self.private)
        if not self.private:
            show_token()
        import ray

        self._ray = ray
        self._theirs = ray.is_initialized()  # by the caller, who also ends it
        watched = self.private and not self._theirs
        self._processes = ClusterProcesses() if watched else None
        self._connected: Future[None] = Future()
        self._leave = threading.Event()
        self._left = in_daemon(self._live)

    def _live(self) -> None:
        """Connect, wait, and disconnect in one thread: Ray's processes end with their parent.

        The parent is the thread that started them, as Linux sees it.
        """
        try:
            self._connect()
            self._connected.set_result(None)
        except BaseException as error:
            self._connected.set_exception(error)
            return
        self._leave.wait()
        if not self._theirs and self.alive:
            from pipeline.runtime.ray.internals import end_cluster

            end_cluster()

    def _connect(self) -> None:
        if self._theirs:
            return
        try:
            if self.private:
                # "local" never joins a cluster that happens to run here.
                arguments: dict[str, Any] = {"address": "local", "include_dashboard": False}
            else:
                arguments = {"address": self.resources.address}
            self._ray.init(**arguments, logging_level=logging.ERROR, log_to_driver=False)
        except Exception as error:
            raise _no_cluster(self.resources.address, error) from error
        from pipeline.runtime.ray.internals import print_no_worker_deaths

        print_no_worker_deaths()
        logging.getLogger("ray.train").setLevel(logging.ERROR)

    @property
    def alive(self) -> bool:
        """Whether a private cluster's own processes run; of others nothing is known here."""
        return self._processes is None or not self._processes.dead

    def check(self) -> None:
        """Look after the processes of a private cluster.

        Raises:
            PipelineError: one of them has died. Ray would end this process some 15 s (raylet) or
                60 s (gcs_server) later, without a word of what to do.
        """
        if self._processes and (dead := self._processes.dead):
            raise PipelineError(
                f"Ray's cluster on this machine is gone: {dead} died or was killed. Its logs are in"
                f" {_LOGS}; where memory ran out, the kernel's log says so. Mend the cause and run"
                " dvc repro: a training goes on from its last checkpoint"
            )

    def ask(self, question: Callable[[], T]) -> T:
        """Ask the cluster something in another thread: Ray waits without an end for the dead.

        Raises:
            PipelineError: see `check`.
        """
        return self._await(in_daemon(question))

    def _await(self, answer: "Future[T]") -> T:
        while not wait([answer], _POLL_S).done:
            self.check()
        return answer.result()

    @property
    def ray(self) -> Any:
        """The module, connected.

        Raises:
            PipelineError: the cluster cannot be joined or started.
        """
        self._await(self._connected)
        return self._ray

    @property
    def nodes(self) -> list[Amounts]:
        """What each node has in all."""
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    @property
    def free(self) -> list[Amounts]:
        """What is free on each node."""
        from pipeline.runtime.ray.internals import free_by_node

        assert self.ray.is_initialized()
        return list(free_by_node().values())

    @property
    def logs(self) -> Path:
        """The folder of this cluster's logs on this machine."""
        from pipeline.runtime.ray.internals import logs_folder

        assert self.ray.is_initialized()
        return logs_folder()

    def grant(self, patience_s: float = _WAIT_FOR_OTHERS_S) -> Demand:
        """Say what each worker gets, as soon as there is room for the fewest.

        Raises:
            PipelineError: the cluster will never have it, or others hold it for longer than
                `patience_s`. Ray would wait for ever.
        """
        return self.ask(lambda: self._grant(patience_s))

    def _grant(self, patience_s: float) -> Demand:
        demand = self._state_demand()
        deadline_s = time.monotonic() + patience_s
        while count_fitting(self.free, demand.per_worker) < demand.fewest:
            if time.monotonic() > deadline_s:
                raise in_use(demand, self.nodes, self.free)
            time.sleep(_POLL_S)
        return demand

    def _state_demand(self) -> Demand:
        """Say what each worker gets.

        Raises:
            PipelineError: the cluster does not have it.
        """
        deadline_s = time.monotonic() + (0.0 if self.private else _WAIT_FOR_NODES_S)
        waits = False
        while True:
            try:
                return state_demand(self.resources, self.nodes)
            except PipelineError as error:
                if time.monotonic() >= deadline_s:
                    raise
                if not waits:
                    print(f"waits {_WAIT_FOR_NODES_S:.0f} s for more nodes: {error}", flush=True)
                    waits = True
            time.sleep(_POLL_S)

    @property
    def closing(self) -> bool:
        """Whether it is being left or ended."""
        return self._leave.is_set()

    def close(self) -> None:
        """Leave or end the cluster. It takes a second or two."""
        self._leave.set()
        if self.alive:
            self._left.result()
        else:
            # To leave in order would be to ask the dead, and a thread that still waits for an
            # answer crashes an interpreter that ends. What is left of it ends with this process.
            atexit.register(_leave_at_once)


@contextmanager
def open_cluster(resources: Resources) -> Iterator[Cluster]:
    """Yield a cluster that is being joined or started, and leave or end it after the block."""
    cluster = Cluster(resources)
    try:
        yield cluster
    finally:
        cluster.close()


def _set_environment(private: bool) -> None:
    """Set what Ray and its processes read from the environment, unless the user has."""
    values = {
        "RAY_USAGE_STATS_ENABLED": "0",  # no call home
        "RAY_TRAIN_V2_ENABLED": "1",
        "RAY_ENABLE_AUTO_CONNECT": "0",  # once left, a cluster is not joined again by the way
        # Seconds between two looks of Ray at its workers; 2 by default, a second lost at the end.
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
        # Before it gives up to place workers again after a failure; 60 by default.
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "25",
    }
    if private:
        values |= {
            # Ray resolves even 127.0.0.1 to the machine's public address, and then listens on all
            # of them. This switch, made for desktop systems, keeps a local cluster to loopback.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            # Idle Python processes, one per core, that none of Ray Train's actors can use because
            # they ask for another environment: 1.2 s of CPU for two.
            "RAY_prestart_worker_first_driver": "0",
            # An actor that watches for nodes about to be taken away: 1.6 s of CPU.
            "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
        }
    for name, value in values.items():
        os.environ.setdefault(name, value)


def _leave_at_once() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)  # as any PipelineError has it


def _no_cluster(address: str | None, error: Exception) -> PipelineError:
    if address is None:
        return PipelineError(
            f"Ray cannot start a cluster on this machine ({type(error).__name__}: {error}); its"
            f" logs are in {_LOGS}"
        )
    return PipelineError(
        f"the Ray cluster of this job does not answer ({type(error).__name__}: {error}); see ray"
        " status on its head"
    )
