"""Runs that a store shows as RUNNING although the process that fed them is gone.

Their journals may be lost too, so each run carries the machine and the process that feed it.
"""

import hashlib
import socket
from collections.abc import Container
from pathlib import Path
from typing import Any

import psutil

HOST_TAG, PROCESS_TAG, JOURNAL_TAG = "convoy.host", "convoy.process", "convoy.journal"
_CLOCK_S = 2.0  # the start time that a system reports for a process drifts with its clock


def this_process() -> dict[str, str]:
    """Return the tags that say which machine and process feed a run."""
    process = psutil.Process()
    return {HOST_TAG: this_host(), PROCESS_TAG: f"{process.pid} {process.create_time():.2f}"}


def this_host() -> str:
    """Return a name for this machine and its space of process ids, beyond which none is seen.

    Machines may share a host name, and containers the identity of their image.
    """
    machine, space = Path("/etc/machine-id"), Path("/proc/self/ns/pid")
    identity = machine.read_text().strip() if machine.exists() else ""
    identity += f" {space.readlink()}" if space.exists() else " "
    return f"{socket.gethostname()}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def is_alive(process: str) -> bool:
    """Whether the process of a tag still runs; True where that cannot be found out."""
    pid, _, started_s = process.partition(" ")
    try:
        found = psutil.Process(int(pid))
        zombie = found.status() == psutil.STATUS_ZOMBIE
        return not zombie and bool(abs(found.create_time() - float(started_s)) < _CLOCK_S)
    except psutil.NoSuchProcess:
        return False
    except (ValueError, psutil.Error):
        return True


def end_stale_runs(client: Any, experiment: str, spared: Container[str]) -> list[str]:
    """End the runs of this machine whose processes are gone as KILLED, and return their ids.

    They end at their last metric. Runs of the journals whose ids are `spared` go on.
    """
    query = f"attributes.status = 'RUNNING' and tags.`{HOST_TAG}` = '{this_host()}'"
    ended = []
    for run in client.search_runs([experiment], query):
        tags, run_id = run.data.tags, run.info.run_id
        if tags.get(JOURNAL_TAG) not in spared and not is_alive(tags.get(PROCESS_TAG, "")):
            histories = (client.get_metric_history(run_id, name) for name in run.data.metrics)
            times = [int(metric.timestamp) for history in histories for metric in history]
            client.set_terminated(run_id, "KILLED", max([int(run.info.start_time), *times]))
            ended.append(run_id)
    return ended
