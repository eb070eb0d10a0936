"""Runs that a store shows as RUNNING although the process that fed them is gone.

A process that is killed cannot end its run. Its journal may be lost too, so each run carries the
machine and the process that feed it.
"""

import hashlib
import socket
from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

HOST_TAG = "convoy.host"
PROCESS_TAG = "convoy.process"
JOURNAL_TAG = "convoy.journal"
_CLOCK_S = 2.0  # the start time that a system reports for a process drifts with its clock


def this_process() -> dict[str, str]:
    """Return the tags that say which machine and process feed a run."""
    process = psutil.Process()
    return {HOST_TAG: this_host(), PROCESS_TAG: f"{process.pid} {process.create_time():.2f}"}


def this_host() -> str:
    """Return a name for this machine and its space of process ids.

    Machines may share a host name, and containers the identity of their image. Processes in
    another space of ids cannot be seen from here.
    """
    identity = ["", ""]
    with suppress(OSError):
        identity[0] = Path("/etc/machine-id").read_text().strip()
    with suppress(OSError):
        identity[1] = str(Path("/proc/self/ns/pid").readlink())
    digest = hashlib.sha256(" ".join(identity).encode()).hexdigest()[:8]
    return f"{socket.gethostname()}-{digest}"


def is_alive(process: str) -> bool:
    """Whether the process of a tag still runs; True where that cannot be found out."""
    pid, _, started_s = process.partition(" ")
    try:
        found = psutil.Process(int(pid))
        if found.status() == psutil.STATUS_ZOMBIE:
            return False
        return bool(abs(found.create_time() - float(started_s)) < _CLOCK_S)
    except psutil.NoSuchProcess:
        return False
    except (ValueError, psutil.Error):
        return True


def end_stale_runs(client: Any, experiment: str, spared: Container[str]) -> list[str]:
    """End the runs of this machine whose processes are gone as KILLED; return their ids.

    Args:
        client: a `MlflowClient`.
        experiment: the id of the experiment to look through.
        spared: ids of journals whose runs go on.
    """
    ended = []
    query = f"attributes.status = 'RUNNING' and tags.`{HOST_TAG}` = '{this_host()}'"
    for run in client.search_runs([experiment], query):
        tags, run_id = run.data.tags, run.info.run_id
        if tags.get(JOURNAL_TAG) in spared or is_alive(tags.get(PROCESS_TAG, "")):
            continue
        histories = (client.get_metric_history(run_id, name) for name in run.data.metrics)
        times = [int(metric.timestamp) for history in histories for metric in history]
        client.set_terminated(run_id, "KILLED", max([int(run.info.start_time), *times]))
        ended.append(run_id)
    return ended
