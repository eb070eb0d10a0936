"""Runs that a store shows as RUNNING although their journals are lost.

A process that is gone leaves a journal, by which a later one ends its run. Where somebody deleted
the journal, its run is found by the tags that it got when it was made.
"""

import hashlib
import socket
from pathlib import Path
from typing import Any

from pipeline.runtime.tracking.journal import unsettled

JOURNAL_TAG, FOLDER_TAG = "convoy.journal", "convoy.journals"


def folder_id(journals: Path) -> str:
    """Return a name for a folder of journals; machines may share a host name or a path."""
    machine = Path("/etc/machine-id")
    identity = machine.read_text().strip() if machine.exists() else ""
    digest = hashlib.sha256(f"{identity} {journals.resolve()}".encode()).hexdigest()
    return f"{socket.gethostname()}-{digest[:8]}"


def end_stale_runs(client: Any, experiment: str, journals: Path) -> list[str]:
    """End as KILLED the runs of this folder without a journal there, and return their ids.

    They end at their last metric.
    """
    query = f"attributes.status = 'RUNNING' and tags.`{FOLDER_TAG}` = '{folder_id(journals)}'"
    found = [run.info.run_id for run in client.search_runs([experiment], query)]
    known = {journal.id for journal, _ in unsettled(journals)}
    ended = []
    # Looked at once more: a training that has ended meanwhile has deleted its journal.
    for run in map(client.get_run, found):
        if run.info.status == "RUNNING" and run.data.tags.get(JOURNAL_TAG) not in known:
            run_id = run.info.run_id
            histories = (client.get_metric_history(run_id, name) for name in run.data.metrics)
            times = [int(metric.timestamp) for history in histories for metric in history]
            client.set_terminated(run_id, "KILLED", max([int(run.info.start_time), *times]))
            ended.append(run_id)
    return ended
