"""`convoy jobs`: those that run on the cluster, and their results."""

import re
from datetime import UTC, datetime

from pipeline.errors import PipelineError
from pipeline.params import Params
from pipeline.runtime.jobs.follow import follow
from pipeline.runtime.jobs.repro import fetch_results
from pipeline.runtime.jobs.spec import find_identity, latest_attempt
from pipeline.runtime.ray.job_server import JobServer, JobState
from pipeline.runtime.storage.shared import Storage

# Such as convoy-train-0123456789ab-1, or repro-0123456789ab.
_WHOLE_NAME = re.compile(r"(?:convoy-)?\w+-([0-9a-f]{12})(?:-(\d+))?")


def run_list(params: Params) -> None:
    """Print a line for each job, the latest first."""
    jobs = _jobs(_server(params))
    if not jobs:
        print("no jobs")
    width = max((len(job.id) for job in jobs), default=0)
    for job in jobs:
        print(f"{job.id:{width}}  {job.status:9}  {_when(job.start_ms)}  {_spent(job)}")


def run_follow(params: Params, name: str) -> None:
    """Show what a job prints until it has ended.

    Raises:
        PipelineError: there is no such job, it has failed, or the sender has detached.
    """
    server = _server(params)
    job = _find(server, name)
    ended = follow(server, job.id)
    if ended is None or ended.status != "SUCCEEDED":
        how = "its cluster was restarted" if ended is None else ended.reason
        status = "is not known any more" if ended is None else f"has ended as {ended.status}"
        raise PipelineError(f"the job {job.id} {status}: {how}")
    print(f"{job.id} has ended; convoy jobs fetch {job.id} brings its results here")


def run_stop(params: Params, name: str) -> None:
    """Stop a job; a training keeps its checkpoints.

    Raises:
        PipelineError: there is no such job, or it has ended.
    """
    server = _server(params)
    job = _find(server, name)
    if not job.running:
        raise PipelineError(f"the job {job.id} has ended already ({job.status})")
    server.stop(job.id)
    print(
        f"{job.id} is stopped; the same command runs it again, a training from its last checkpoint"
    )


def run_fetch(params: Params, name: str | None) -> None:
    """Write the results of a job here; of the latest `convoy submit`, where none is named.

    Raises:
        PipelineError: there is no such job, it has not ended, or a part is damaged.
    """
    storage = Storage(params.resources.storage)
    # A job server forgets its jobs when its head is started again; the storage does not.
    if (whole := _WHOLE_NAME.fullmatch(name or "")) and (known := find_identity(storage, whole[1])):
        attempt = int(whole[2] or latest_attempt(storage, known))
        print(f"{name}: {fetch_results(storage, known, attempt)}")
        return
    job = _find(_server(params), name or "convoy-repro-")
    storage = Storage(job.metadata.get("storage", params.resources.storage))
    attempt = int(job.id.rpartition("-")[2])
    print(f"{job.id}: {fetch_results(storage, job.metadata['identity'], attempt)}")


def _server(params: Params) -> JobServer:
    if params.resources.address is None:
        raise PipelineError(
            "no cluster is named; set resources.address in params.yaml, or RAY_ADDRESS, to its job"
            " server, such as http://HOST:8265"
        )
    return JobServer(params.resources.address)


def _jobs(server: JobServer) -> list[JobState]:
    return [job for job in server.jobs() if "identity" in job.metadata]


def _find(server: JobServer, name: str) -> JobState:
    """Return the latest job whose name begins so, with or without 'convoy-'."""
    jobs = _jobs(server)
    for job in jobs:
        if job.id.startswith(name) or job.id.removeprefix("convoy-").startswith(name):
            return job
    known = ", ".join(job.id for job in jobs[:5]) or "it has none of Convoy"
    raise PipelineError(f"{server.address} knows no job {name}*; latest: {known}")


def _when(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC" if ms else "not begun"


def _spent(job: JobState) -> str:
    if not job.start_ms:
        return ""
    end_ms = job.end_ms or datetime.now(UTC).timestamp() * 1000
    return f"{(end_ms - job.start_ms) / 1000:.0f} s"
