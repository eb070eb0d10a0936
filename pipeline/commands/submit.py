"""`convoy submit`: a whole `dvc repro` as one job of the cluster."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import PipelineError, some
from pipeline.params import Params
from pipeline.runtime.jobs.repro import repro_job
from pipeline.runtime.tracking.store import reached_from_elsewhere, shown, tracking_uri


def run(params: Params, targets: Sequence[str], *, with_changes: bool, detach: bool) -> None:
    """Submit the workflow of this folder, or join the job that runs it, and follow it.

    Args:
        params: with the cluster's address.
        targets: stages; none for all.
        with_changes: whether changes that are not committed are taken along.
        detach: whether to end as soon as the job is submitted.

    Raises:
        PipelineError: no cluster is named, changes are not committed, a tracking store that the
            cluster does not reach, or see `SentJob.run`.
    """
    if params.resources.address is None:
        raise PipelineError(
            "convoy submit needs a cluster; set resources.address in params.yaml, or RAY_ADDRESS,"
            " to its job server, such as http://HOST:8265"
        )
    uri = tracking_uri(params.tracking)
    if not reached_from_elsewhere(uri):
        raise PipelineError(
            f"the MLflow store at {shown(uri)} is on this machine, and the cluster is to register"
            " the model there; set MLFLOW_TRACKING_URI to a server that both reach, or run dvc"
            " repro, which keeps DVC and MLflow here"
        )
    if not with_changes and (changed := _uncommitted()):
        raise PipelineError(
            f"not committed: {some(changed, 5)}; commit, or take them along by --with-changes"
        )
    job = repro_job(params, targets)
    if detach:
        attempt = job.join_or_submit()
        print(f"convoy jobs --follow {job.id(attempt)} shows it")
    else:
        job.run()
    print("convoy jobs fetch brings its results here, when it has ended")


def _uncommitted() -> list[str]:
    """Return the files that differ from the commit, but for dvc.lock, or are in none."""
    asked = subprocess.run(
        ["git", "status", "--porcelain", "-z", "--", ".", ":!dvc.lock"],
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode:
        raise PipelineError(
            f"{Path.cwd()} is no git repository ({asked.stderr.strip()}), so that no commit says"
            " what is submitted; take the files as they are by --with-changes"
        )
    return [entry[3:] for entry in asked.stdout.split("\0") if len(entry) > 3]
