"""A whole `dvc repro` as a job, and its results back in the workspace."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pipeline.errors import PipelineError
from pipeline.params import Params
from pipeline.runtime.jobs.fetch import fetch
from pipeline.runtime.jobs.send import SentJob
from pipeline.runtime.jobs.spec import JobSpec, load_failure, load_result
from pipeline.runtime.jobs.stage_files import DVC_LOCK, all_outs, check_stages
from pipeline.runtime.storage.shared import Storage


def repro_job(params: Params, targets: Sequence[str]) -> SentJob:
    """Return the job that runs `dvc repro` on what this folder holds now.

    Raises:
        PipelineError: no such stage, or images that only this machine has.
    """
    check_stages(targets)
    outs = all_outs(params)
    root = params.data.root
    carried = [*outs, str(DVC_LOCK)]
    if "://" not in root and not PurePosixPath(root).is_absolute() and root not in outs:
        carried.append(root)
    about = params.model_dump(mode="json", exclude={"resources", "tracking"})
    return SentJob(params, "repro", carried, (*outs, str(DVC_LOCK)), about=about, targets=targets)


def fetch_results(storage: Storage, identity: str, attempt: int) -> str:
    """Write the results of a job here, as if they had been made here; return what they are.

    Raises:
        PipelineError: it has none yet, or a part is damaged.
    """
    spec = JobSpec.load(storage, identity)
    outs, note = load_result(storage, identity), ""
    if outs is None and (failure := load_failure(storage, identity, attempt)):
        note, outs = " of a job that has failed", failure[1]
    if outs is None:
        raise PipelineError(
            f"the job {spec.stage} {identity[:12]} has not ended; convoy jobs --follow shows it"
        )
    fetch(storage, outs, spec.outs)
    if spec.stage == "repro" and Path(".dvc").is_dir():
        # Into DVC's cache, as a stage that runs here does.
        done = subprocess.run(
            [sys.executable, "-m", "dvc", "commit", "-f", "-q"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise PipelineError(f"dvc commit failed: {done.stderr.strip()[-300:]}")
    return f"{len(outs.files)} files ({outs.size / 2**20:.1f} MiB){note}"
