"""Runs that a store shows as RUNNING although the process that fed them is gone.

A process that is killed cannot say so. It leaves its run's name in a spool, if that is not lost
too; so each run also carries the machine and the process that feed it.
"""

import hashlib
import socket
from collections.abc import Container
from pathlib import Path
from typing import Any

import psutil

HOST_TAG = "convoy.host"
PROCESS_TAG = "convoy.process"
SPOOL_TAG = "convoy.spool"
_CLOCK_S = 2.0  # the start time that a system reports for a process drifts with its clock


def this_process() -> dict[str, str]:
    """Return the tags that say which machine and process feed a run."""
    process = psutil.Process()
    return {HOST_TAG: this_host(), PROCESS_TAG: f"{process.pid} {process.create_time():.2f}"}


def this_host() -> str:
    """Return a name for this machine, and for this container on it: where process ids are ours.

    Machines may share a host name, and containers the identity of their image; processes of
    another space of process ids cannot be seen, so their runs are never judged.
    """
    space = Path("/proc/self/ns/pid")
    identity = [_read(Path("/etc/machine-id")), str(space.readlink()) if space.exists() else ""]
    digest = hashlib.sha256(" ".join(identity).encode()).hexdigest()[:8]
    return f"{socket.gethostname()}-{digest}"


def is_alive(process: str) -> bool:
    """Whether the process that a tag names still runs here; one that cannot be read may."""
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


def mend_orphans(client: Any, experiment: str, spared: Container[str]) -> list[str]:
    """End the runs of this machine whose processes are gone as KILLED.

    Args:
        client: a `MlflowClient`.
        experiment: the id of the experiment to look through.
        spared: names of spools whose runs go on.

    Returns:
        The ids of the runs that were ended.
    """
    mended = []
    query = f"attributes.status = 'RUNNING' and tags.`{HOST_TAG}` = '{this_host()}'"
    for run in client.search_runs([experiment], query):
        tags = run.data.tags
        if tags.get(SPOOL_TAG) in spared or is_alive(tags.get(PROCESS_TAG, "")):
            continue
        client.set_terminated(run.info.run_id, "KILLED", _last_heard_ms(client, run))
        mended.append(run.info.run_id)
    return mended


def _last_heard_ms(client: Any, run: Any) -> int:
    """Return the time of the last metric, or else of the start, in ms since 1970."""
    histories = (client.get_metric_history(run.info.run_id, name) for name in run.data.metrics)
    times = [int(metric.timestamp) for history in histories for metric in history]
    return max([int(run.info.start_time), *times])


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
