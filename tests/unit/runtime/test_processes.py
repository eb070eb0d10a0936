import os
import subprocess
import sys

import psutil

from pipeline.runtime.processes import ancestors, is_running, this_host, this_process

SHOW = "from pipeline.runtime.processes import this_process; print(this_process(), flush=True)"


def test_this_process_runs():
    number, started = this_process().split()
    assert int(number) == os.getpid()
    assert abs(int(started) - psutil.Process().create_time()) <= 0.5
    assert is_running(this_process())
    assert this_host()


def test_a_process_that_has_ended_does_not_run():
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, check=True)
    assert not is_running(done.stdout.strip())


def test_a_process_that_nobody_has_taken_leave_of_does_not_run():
    """A zombie: it has ended, and its parent has not asked how."""
    process = subprocess.Popen([sys.executable, "-c", SHOW], stdout=subprocess.PIPE, text=True)
    name = process.stdout.readline().strip()
    process.stdout.read()  # until it ends
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    assert not is_running(name)
    process.wait()


def test_another_process_with_the_same_number_is_another():
    number, started = this_process().split()
    assert not is_running(f"{number} {int(started) - 100}")


def test_nonsense_does_not_run():
    assert not is_running("")
    assert not is_running("one two")


def test_ancestors_begin_with_the_parent():
    first, *_ = ancestors()
    assert first.pid == os.getppid()
