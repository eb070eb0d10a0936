"""A whole `dvc repro` as a job, and its results back in the workspace."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import yaml

from pipeline.errors import PipelineError
from pipeline.files import as_text
from pipeline.params import Params
from pipeline.remote import is_uri
from pipeline.runtime.jobs.fetch import fetch
from pipeline.runtime.jobs.send import SentJob, reads_images_there
from pipeline.runtime.jobs.spec import JobSpec, load_failure, load_result
from pipeline.runtime.jobs.stage_files import (
    DVC_FILE,
    DVC_LOCK,
    all_outs,
    check_stages,
    image_files,
)
from pipeline.runtime.storage.shared import Storage
from pipeline.runtime.storage.trees import leads_out


def repro_job(params: Params, targets: Sequence[str]) -> SentJob:
    """Return the job that runs `dvc repro` on what this folder holds now.

    Raises:
        PipelineError: no such stage, or images that only this machine has.
    """
    check_stages(targets)
    outs = all_outs(params)
    root = params.data.root
    carried = [*outs, str(DVC_LOCK)]
    if not is_uri(root) and not PurePosixPath(root).is_absolute() and root not in outs:
        if leads_out(root):
            raise PipelineError(
                f"data.root is {root}, which lies outside of the folder that is submitted; set it"
                " to a folder that all nodes see, by its whole path, or to s3://BUCKET/FOLDER"
            )
        carried += image_files(root)
    elif root not in outs and not reads_images_there("index", params):
        raise PipelineError(
            f"data.root is {root}, which not all nodes see; set it to a folder that they share, by"
            " its whole path, or to s3://BUCKET/FOLDER"
        )
    workflow = [DVC_FILE.read_text(encoding="utf-8")]
    about = [params.model_dump(mode="json", exclude={"resources", "tracking"}), workflow]
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
            f"the job {spec.stage} {identity[:12]} has left no results: it still runs, was stopped,"
            " or its driver was killed; convoy jobs says which"
        )
    fetch(storage, outs, spec.outs)
    if spec.stage == "repro" and Path(".dvc").is_dir() and DVC_LOCK.exists():
        _commit()
    what = as_text(outs.files[0].path) if len(outs.files) == 1 else f"{len(outs.files)} files"
    return f"{what} ({outs.size / 2**20:.1f} MiB){note}"


def _commit() -> None:
    """Copy the outs of all stages that are whole here into DVC's cache, as their run here does."""
    lock = DVC_LOCK.read_bytes()
    stages = yaml.safe_load(lock).get("stages") or {}
    outs = {name: stage.get("outs", ()) for name, stage in stages.items()}
    whole = [name for name in outs if all(Path(out["path"]).exists() for out in outs[name])]
    if not whole:
        return
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "commit", "-f", *whole],
        capture_output=True,
        text=True,
        check=False,
    )
    # DVC has written the code and params of this folder there; the job may have had others.
    DVC_LOCK.write_bytes(lock)
    if done.returncode:
        raise PipelineError(f"dvc commit failed: {done.stderr.strip()[-300:]}")
