"""Which processes of a cluster are dead: real ones, with the names of Ray's."""

import shutil
import subprocess

import pytest

from pipeline.runtime.ray.processes import ClusterProcesses
from tests.waiting import wait_until


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a process with a name."""
    started = []

    def start(name):
        program = tmp_path / name
        shutil.copy(shutil.which("sleep"), program)
        started.append(subprocess.Popen([program, "60"]))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_process_that_was_seen_and_is_gone_is_dead(start):
    processes = ClusterProcesses()
    assert processes.dead == ""
    gcs, _ = start("gcs_server"), start("dashboard")
    assert processes.dead == ""
    raylet = start("raylet")
    assert processes.dead == ""
    raylet.kill()  # and not waited for: it is a zombie
    wait_until(lambda: processes.dead == "raylet")
    raylet.wait()
    assert processes.dead == "raylet"
    gcs.kill()
    wait_until(lambda: processes.dead == "gcs_server and raylet")


def test_the_processes_of_an_earlier_cluster_are_none_of_this_one(start):
    earlier = start("raylet")
    processes = ClusterProcesses()
    earlier.kill()
    earlier.wait()
    assert processes.dead == ""
