"""Hosts on one machine: each a network namespace with an address, a hostname and a folder.

A host stands for a computer of a cluster. Its processes reach other hosts and the tests over a
bridge (10.77.N.1 is the tests' side, 10.77.N.2 and up are the hosts); it can be cut off from the
network while its processes go on, and all its processes can be killed at once, as when power fails.

That needs root and `ip`. Elsewhere a host is a loopback address (127.77.N.2 and up) with plain
processes: `isolated` is False then, and `cut_off` is impossible.

A number N belongs to the process that holds the lock on /tmp/convoy-hosts-N.lock. The kernel
releases the lock when that process ends, however it ends. So sessions never collide, and the next
session removes whatever a killed one left behind.
"""

import fcntl
import os
import shutil
import signal
import subprocess
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from tests.waiting import wait_until

_NUMBERS = range(16)  # as many sessions can run on one machine
_PLACE = Path("/tmp")  # the same for all sessions, whatever their TMPDIR
MARK = "CONVOY_TEST_HOST"  # this variable names the host in the environment of its processes
CAN_ISOLATE = os.geteuid() == 0 and shutil.which("ip") is not None


@contextmanager
def hosts(count, isolated=CAN_ISOLATE):
    """Yield `count` hosts; at the end they, their processes and their folders are removed."""
    with ExitStack() as stack:
        number = _take_a_number(stack)
        stack.callback(_remove, number)
        made = [Host(number, place, isolated) for place in range(2, count + 2)]
        if isolated:
            bridge = f"convoy-{number}"
            _ip("link", "add", bridge, "type", "bridge")
            _ip("address", "add", f"10.77.{number}.1/24", "dev", bridge)
            _ip("link", "set", bridge, "up")
            names = "".join(f"{host.address} {host.name}\n" for host in made)
            for host in made:
                host._connect(bridge, f"127.0.0.1 localhost\n{names}")
        yield made


class Host:
    """A computer of a cluster.

    Attributes:
        name: its hostname, which the other hosts can resolve.
        address: its IP address.
        outside: the IP address of the tests' side, as this host sees it.
        isolated: whether it has a network of its own.
        folder: a folder with a short path (Ray's sockets allow about 40 characters).
    """

    def __init__(self, number, place, isolated):
        self.name = f"convoy-{number}-{place}"
        network = f"10.77.{number}" if isolated else f"127.77.{number}"
        self.address = f"{network}.{place}"
        self.outside = f"{network}.1"
        self.isolated = isolated
        self.folder = _PLACE / self.name
        self.folder.mkdir()
        self._sessions = set()

    def run(self, command, env=None, log=None):
        """Start a command on this host.

        Args:
            command: a list of strings.
            env: variables to set besides the environment of the tests; None removes one.
            log: a file to which its output is appended; None discards the output.

        Returns:
            A `subprocess.Popen`, the leader of a session of its own.
        """
        if self.isolated:
            set_name = f'echo {self.name} > /proc/sys/kernel/hostname; exec "$@"'
            inside = ["ip", "netns", "exec", self.name, "unshare", "--uts"]
            command = [*inside, "sh", "-c", set_name, "sh", *command]
        full = os.environ | {MARK: self.name} | (env or {})
        full = {name: text for name, text in full.items() if text is not None}
        with Path(log or os.devnull).open("ab") as sink:
            started = subprocess.Popen(
                command,
                env=full,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
            )
        self._sessions.add(started.pid)
        return started

    def processes(self):
        """Return the living processes of this host as `psutil.Process`es."""
        return _processes_of(self.name, self._sessions)

    def kill(self):
        """Kill -9 all processes of this host, and empty its folder, as a loss of power would."""
        _kill(self.processes)
        self._sessions.clear()
        shutil.rmtree(self.folder)
        self.folder.mkdir()

    def cut_off(self):
        """Take the host off the network; its packets and those for it are lost."""
        _ip("link", "set", self.name, "down")

    def join(self):
        """Put the host back on the network."""
        _ip("link", "set", self.name, "up")

    def _connect(self, bridge, names):
        _ip("netns", "add", self.name)
        peer = ["peer", "name", "eth0", "netns", self.name]
        _ip("link", "add", self.name, "type", "veth", *peer)
        _ip("link", "set", self.name, "master", bridge, "up")
        _ip("-n", self.name, "link", "set", "lo", "up")
        _ip("-n", self.name, "address", "add", f"{self.address}/24", "dev", "eth0")
        _ip("-n", self.name, "link", "set", "eth0", "up")
        # Programs find their own address by the default route. Ray asks for a cloud's metadata
        # when it starts; it shall not wait 12 s for an answer, nor for one of a name server.
        _ip("-n", self.name, "route", "add", "default", "via", self.outside)
        _ip("-n", self.name, "route", "add", "unreachable", "169.254.0.0/16")
        etc = Path("/etc/netns") / self.name  # `ip netns exec` mounts these files over /etc
        etc.mkdir(parents=True)
        (etc / "hosts").write_text(names)
        (etc / "resolv.conf").write_text("# no name server\n")


def _take_a_number(stack):
    """Remove what is left of numbers that nobody holds; hold the first of them."""
    mine = None
    for number in _NUMBERS:
        path = _PLACE / f"convoy-hosts-{number}.lock"
        if mine is not None and not path.exists():
            break  # no session ever took this number or a higher one
        try:
            lock = path.open("a")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # held by another session, or another user's
            continue
        if mine is None:
            mine = number
            stack.callback(lock.close)
            _remove(number)
        else:
            if _left_of(number):
                _remove(number)
            lock.close()
    assert mine is not None, f"{len(_NUMBERS)} sessions use hosts already"
    return mine


def _left_of(number):
    return [*_PLACE.glob(f"convoy-{number}-*"), *Path("/run/netns").glob(f"convoy-{number}-*")]


def _remove(number):
    names = {path.name for path in _left_of(number)}
    for name in sorted(names):
        _kill(lambda name=name: _processes_of(name))
        if CAN_ISOLATE:
            _ip("link", "del", name, check=False)
            _ip("netns", "del", name, check=False)
            shutil.rmtree(Path("/etc/netns") / name, ignore_errors=True)
        shutil.rmtree(_PLACE / name, ignore_errors=True)
    if CAN_ISOLATE:
        _ip("link", "del", f"convoy-{number}", check=False)


def _processes_of(name, sessions=()):
    """Return the processes with the host's mark, those of its sessions and those in its namespace.

    None of the three finds all: Ray's workers overwrite their environment, and with it the mark,
    when they set their title, and a process that `ip` has just started is not in the namespace yet.
    """
    found = set()
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) in sessions or process.environ().get(MARK) == name:
                found |= {process, *process.children(recursive=True)}
    if (Path("/run/netns") / name).exists():
        for pid in _ip("netns", "pids", name, check=False).split():
            with suppress(psutil.NoSuchProcess):
                found.add(psutil.Process(int(pid)))
    return sorted((one for one in found if _lives(one)), key=lambda process: process.pid)


def _lives(process):
    with suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def _kill(processes):
    """Kill -9 processes until none is left: one may start another meanwhile."""

    def none_left():
        left = processes()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        return not left

    wait_until(none_left, patience_s=30)


def _ip(*words, check=True):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout
