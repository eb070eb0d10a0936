"""A real Ray cluster of several hosts on one machine, whose parts can be killed and cut off.

    with RayCluster(folder) as cluster:
        cluster.client().submit_job(entrypoint="python -c 'print(1)'")
        cluster.kill_node(0)

The head and each node are a host of their own (see tests/clusters/hosts.py) with their own
resources, temporary folder and cache. A node's process that exits by itself is started again, as a
systemd unit with `Restart=always` would do it; a node that a test killed stays away until
`restart_node`.
"""

import json
import threading
import time
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

from tests.clusters.hosts import CAN_ISOLATE, hosts
from tests.waiting import wait_until

TOKEN = "a-token-of-the-tests-that-is-long-enough"

# How long Ray 2.60 waits, and its own values. `RayCluster(waits=...)` sets others.
RAY_WAITS = {
    # The head asks each raylet for its health: first after the delay, then every period, each time
    # for up to the timeout. A node is dead when so many answers in a row are missing. A raylet
    # that was killed refuses at once: 5 * 3 s = 15 s. A node that is cut off is silent: about 52 s.
    "health_check_initial_delay_ms": 5000,
    "health_check_period_ms": 3000,
    "health_check_timeout_ms": 10000,
    "health_check_failure_threshold": 5,
    # A raylet and a worker exit when they could not reach the head for so long.
    "gcs_rpc_server_reconnect_timeout_s": 60,
    # A raylet asks the head so often whether it is alive; it exits if a new head does not know it.
    "raylet_liveness_self_check_interval_ms": 60000,
}


class RayCluster:
    """A head and nodes.

    Attributes:
        address: the job server, `http://HOST:8265`.
        gcs_address: `HOST:6379`, for `ray.init` on a host of the cluster.
        variables: the environment with which a client reaches the cluster.
        env: variables that hosts get when they start; may be added to before `start`.
        outside: the IP address of the tests' side, as the hosts see it.
        head: the head's `Host`.
        hosts: the nodes' `Host`s.
        isolated: whether hosts have networks of their own, and can be cut off.
    """

    def __init__(
        self,
        folder,
        nodes=({"CPU": 1}, {"CPU": 1}),
        head_cpus=0,
        token=True,
        env=None,
        waits=None,
        isolated=CAN_ISOLATE,
    ):
        """Describe a cluster; `start` starts it.

        Args:
            folder: gets a log per host, and each host's cache (`CONVOY_CACHE`).
            nodes: the resources of each node: CPU, GPU and others by name.
            head_cpus: CPUs of the head, 0 so that only jobs' drivers run there.
            token: whether Ray's token authentication is on.
            env: variables of all hosts.
            waits: values for names of `RAY_WAITS`. Others of Ray's settings work, too: with
                `gcs_storage="rocksdb"` and `gcs_storage_path=FOLDER` a head that is started again
                knows its jobs and nodes.
            isolated: whether each host gets a network of its own.
        """
        self._folder = Path(folder)
        self._resources = [{"CPU": head_cpus}, *nodes]
        self._stack = ExitStack()
        self._started = {}  # the `ray start` of each place that should run: 0 is the head
        self._since = {}  # when each place was started last, seconds since the epoch
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self.isolated = isolated
        self._all = self._stack.enter_context(hosts(1 + len(nodes), isolated))
        self.head, *self.hosts = self._all
        self.outside = self.head.outside
        self.address = f"http://{self.head.address}:8265"
        self.gcs_address = f"{self.head.address}:6379"
        auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN} if token else {}
        self._headers = {"Authorization": f"Bearer {TOKEN}"} if token else {}
        self.variables = {"RAY_ADDRESS": self.address, **auth}
        self.env = auth | {
            "RAY_ADDRESS": None,  # those who start the tests may have set it
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_enable_metrics_collection": "0",
            **{f"RAY_{name}": str(value) for name, value in (waits or {}).items()},
            **(env or {}),
        }

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def start(self):
        """Start all hosts; return when jobs can be submitted and all nodes are alive."""
        for place in range(len(self._all)):
            self._start(place)
        threading.Thread(target=self._keep_up, daemon=True).start()
        self.wait_for_head()
        self.wait_for_nodes()

    def stop(self, patience_s=30.0):
        """Stop all hosts as `ray stop` does; all processes must end.

        Raises:
            AssertionError: processes that are left, such as those a job left behind.
        """
        self._closing.set()
        with self._lock:
            head = self._started.pop(0)
            for node in self._started.values():
                node.terminate()
            for node in self._started.values():
                node.wait(patience_s)
            head.terminate()
            head.wait(patience_s)
        try:
            wait_until(lambda: not self.memory(), patience_s)
        except AssertionError:
            raise AssertionError(f"processes are left: {self.memory()}") from None

    def heal(self):
        """Undo all faults: afterwards the head takes jobs and all nodes are alive."""
        for place, host in enumerate(self._all):
            if host.isolated:
                host.join()
            if place not in self._started:
                self._start(place)
        self.wait_for_head()
        self.wait_for_nodes()

    def close(self):
        """Kill -9 whatever runs, and remove the hosts."""
        self._closing.set()
        with self._lock:
            self._started.clear()
            self._stack.close()

    def client(self):
        """Return a `JobSubmissionClient` with the token, whatever this process's environment."""
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(self.address, headers=self._headers)

    def nodes(self):
        """Return what the head holds of each node that it ever saw, as Ray's State API has it."""
        return self._get("/api/v0/nodes?limit=1000&detail=1")["data"]["result"]["result"]

    def alive(self):
        """Return the addresses of the hosts that the head holds for alive."""
        return {node["node_ip"] for node in self.nodes() if node["state"] == "ALIVE"}

    def wait_for_head(self, patience_s=60.0):
        """Wait until the job server answers and jobs can be submitted."""
        self._wait(lambda: self._get("/api/jobs/") is not None, patience_s)

    def wait_for_nodes(self, patience_s=60.0):
        """Wait until the head holds for alive what runs now, and nothing that ran before."""

        def as_started():
            living = {one["node_ip"]: one for one in self.nodes() if one["state"] == "ALIVE"}
            since = {self._all[place].address: self._since[place] for place in self._started}
            return living.keys() == since.keys() and all(
                living[address]["start_time_ms"] >= since[address] * 1000 for address in since
            )

        self._wait(as_started, patience_s)

    def _get(self, path):
        # A server that has just started may take a request and never answer it.
        request = urllib.request.Request(self.address + path, headers=self._headers)
        with urllib.request.urlopen(request, timeout=1) as answer:
            return json.load(answer)

    def _wait(self, true, patience_s):
        def holds():
            with suppress(OSError, RuntimeError):  # nothing there yet, or half of it
                return true()

        try:
            wait_until(holds, patience_s)
        except AssertionError as problem:
            raise AssertionError(f"{problem}\n{self.logs()}") from None

    def logs(self, lines=30):
        """Return the end of what each host's `ray start` printed."""
        ends = []
        for host in self._all:
            log = self._folder / f"{host.name}.log"
            text = log.read_text().splitlines()[-lines:] if log.exists() else []
            ends += [f"--- {host.name}", *text]
        return "\n".join(ends)

    def _start(self, place):
        host = self._all[place]
        cache = self._folder / f"cache-{place}"
        command = ["ray", "start", "--block", f"--node-ip-address={host.address}"]
        command += [f"--temp-dir={host.folder}", "--object-store-memory=200000000"]
        resources = dict(self._resources[place])
        command += [
            f"--num-cpus={resources.pop('CPU', 0)}",
            f"--num-gpus={resources.pop('GPU', 0)}",
        ]
        command += [f"--resources={json.dumps(resources)}", "--include-log-monitor=false"]
        if place == 0:
            command += ["--head", "--dashboard-host=0.0.0.0", "--no-monitor"]
        else:
            command += [f"--address={self.gcs_address}"]
        with self._lock:
            self._since[place] = time.time()
            self._started[place] = host.run(
                command, self.env | {"CONVOY_CACHE": str(cache)}, self._folder / f"{host.name}.log"
            )

    def _keep_up(self):
        """Start nodes again which exited by themselves."""
        while not self._closing.wait(0.2):
            with self._lock:
                for place, process in list(self._started.items()):
                    if process.poll() is not None and not self._closing.is_set():
                        self._all[place].kill()
                        self._start(place)

    # Faults.

    def kill_node(self, which):
        """Kill -9 all processes of a node: its raylet, its workers and what those started."""
        self._kill(1 + which)

    def restart_node(self, which):
        """Start a killed node again; its cache is kept."""
        self._start(1 + which)

    def kill_head(self):
        """Kill -9 all processes of the head: its jobs' drivers, too."""
        self._kill(0)

    def restart_head(self):
        """Start the killed head again, with nothing of its past (see `waits`)."""
        self._start(0)

    def cut_off(self, which):
        """Take a node off the network; its processes go on."""
        self.hosts[which].cut_off()

    def join(self, which):
        """Put a node back on the network."""
        self.hosts[which].join()

    def kill_job_driver(self, submission_id):
        """Kill -9 a job's entrypoint and what it started, but none of Ray's own processes."""
        killed = [one for host in self._all for one in _of_job(host, submission_id)]
        assert killed, f"no process of job {submission_id}"
        for process in killed:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def workers(self, name):
        """Return (address of its host, process) of each Ray worker whose title contains `name`.

        Ray titles a worker `ray::IDLE`, `ray::NAME_OF_TASK` or `ray::CLASS.METHOD`.
        """
        return [
            (host.address, process)
            for host in self._all
            for process in host.processes()
            if (title := _title(process)).startswith("ray::") and name in title
        ]

    def kill_worker(self, name):
        """Kill -9 the first of the workers of a name; return the address of its host."""
        found = self.workers(name)
        assert found, f"no worker {name}: {[_title(process) for _, process in self.workers('')]}"
        address, process = found[0]
        process.kill()
        return address

    def memory(self):
        """Return (address, process id, title, bytes) of each process.

        The bytes are its proportional set size: pages that n processes share count 1/n each.
        """
        rows = []
        for host in self._all:
            for process in host.processes():
                with suppress(psutil.NoSuchProcess):
                    size = process.memory_full_info().pss
                    rows.append((host.address, process.pid, _title(process), size))
        return rows

    def of_jobs(self):
        """Return the titles of processes that jobs have started: drivers, actors and tasks."""
        titles = [title for _, _, title, _ in self.memory()]
        ours = ("-m pipeline", "ray::RayTrain", "ray::TrainController", "ray::_work")
        return [title for title in titles if any(word in title for word in ours)]

    def _kill(self, place):
        with self._lock:
            del self._started[place]
            self._all[place].kill()


def _of_job(host, submission_id):
    found = []
    for process in host.processes():
        with suppress(psutil.Error):
            if submission_id in process.environ().get("RAY_JOB_CONFIG_JSON_ENV_VAR", ""):
                found.append(process)
    return found


def _title(process):
    with suppress(psutil.Error):
        return " ".join(process.cmdline()).strip()
    return ""
