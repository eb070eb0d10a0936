"""Where a stage runs: here, on a cluster as a job, or in a job."""

import importlib
import os
from contextlib import nullcontext

from pipeline.params import Params
from pipeline.progress import command_clock

# Stages that are worth a cluster. The others take seconds, or work on the user's own files.
SENT = ("index", "pack", "balance", "autotune", "train", "finetune", "tta", "evaluate", "embed")


def run_stage(stage: str, params: Params) -> None:
    """Run a stage.

    Raises:
        PipelineError: as the stage, or see `send_stage`.
    """
    # A training has a bar of its own.
    with nullcontext() if stage in ("train", "finetune") else command_clock(stage):
        if stage in SENT and _is_placed(params):
            _run_placed(stage, params)
        else:
            importlib.import_module(f"pipeline.stages.{stage}").run(params)


def _is_placed(params: Params) -> bool:
    """Whether there is a cluster to work on."""
    named = (os.environ.get(name) for name in ("RAY_ADDRESS", "CONVOY_JOB"))
    return bool(params.resources.address or any(named))


def _run_placed(stage: str, params: Params) -> None:
    from pipeline.runtime.storage.job_context import current_job, placed

    params, job = placed(params), current_job()
    if job:
        from pipeline.runtime.jobs.inside import run_stage as run_inside

        run_inside(job, stage, params)
    else:
        from pipeline.runtime.jobs.send import send_stage

        send_stage(params, stage)
