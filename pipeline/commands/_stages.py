"""Where a stage runs: here, on a cluster as a job, or in a job."""

import importlib
from contextlib import nullcontext

from pipeline.params import JOINED, Params
from pipeline.progress import command_clock

# Stages that are worth a cluster. The others take seconds, or work on the user's own files.
SENT = ("index", "pack", "balance", "autotune", "train", "finetune", "tta", "evaluate", "embed")


def run_stage(stage: str, params: Params) -> None:
    """Run a stage.

    Args:
        stage: its name.
        params: as they hold here, see `placed`.

    Raises:
        PipelineError: as the stage, or see `send_stage`.
    """
    # A start that is not tried takes no longer than a look at the registry.
    sent = stage in SENT or (stage == "start" and params.start.mode == "auto")
    address = params.resources.address if sent else None
    if address == JOINED:
        from pipeline.runtime.jobs.inside import run_stage as run_inside

        run_inside(stage, params)
        return
    if address is not None:
        with command_clock(stage):
            if _sent(stage, params):
                return
    # A training has a bar of its own.
    with nullcontext() if stage in ("start", "train", "finetune") else command_clock(stage):
        importlib.import_module(f"pipeline.stages.{stage}").run(params)


def _sent(stage: str, params: Params) -> bool:
    """Run a stage on the cluster; return False where that is impossible."""
    from pipeline.runtime.jobs.send import reads_images_there, send_stage

    if not reads_images_there(stage, params):
        print(f"{stage}: runs here, since not all nodes can read data.root, {params.data.root}")
        return False
    send_stage(params, stage)
    return True
