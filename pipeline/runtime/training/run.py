"""A training from a job to a bundle: tracking, Ray, and the files it leaves."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.files import write_json
from pipeline.params import Params
from pipeline.runtime.ray.fit import fit, fit_member, runs_here
from pipeline.runtime.ray.torchrun import torchrun_world
from pipeline.runtime.session.interrupts import sigterm_interrupts
from pipeline.runtime.session.run_folder import RunFolder
from pipeline.runtime.storage.job_context import current_job
from pipeline.runtime.tracking.journal import journal_folder
from pipeline.runtime.tracking.run_logger import RunLogger
from pipeline.runtime.tracking.run_metadata import best_metrics, bundle_tags, gather_metadata
from pipeline.runtime.tracking.trained import Trained
from pipeline.runtime.training.event_handler import BestWeights, EventHandler, describe_best
from pipeline.runtime.training.progress_bar import ProgressBar
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.bundle.description import write_bundle
from pipeline.vision.training.checkpoint import BEST_FILE
from pipeline.vision.training.job import Job
from pipeline.vision.training.training_state import TrainingState, read_training_state
from pipeline.vision.training.versions import code_digest, library_versions


def run_training(
    params: Params,
    job: Job,
    trained: Trained,
    arithmetic: Arithmetic,
    *,
    bundle: Path,
    history: Path,
) -> TrainingState | None:
    """Train, and write the best network as a bundle.

    A call with the same job, libraries and code as one that was killed goes on from its last
    checkpoint.

    Args:
        params: resources, tracking, and what the MLflow run records of the rest.
        job: what to train.
        trained: the same, as its run records it.
        arithmetic: how to compute, where that is possible.
        bundle: the folder to write.
        history: the JSON file to write, one record per epoch.

    Returns:
        How the training has ended; None in a process of torchrun that is not the first.

    Raises:
        PipelineError: see `fit`.
    """
    with sigterm_interrupts():
        identity = job.identity(arithmetic, library_versions(), code_digest())
        storage = Path(params.resources.runs).resolve()
        folder = RunFolder(storage, f"{job.stage}-{identity[:16]}")
        world = torchrun_world()
        if world and world.rank:
            fit_member(job, arithmetic, params.resources, folder)
            return None
        with _recorded(params, trained, job, folder) as run_logger:
            with _handling(params, job, run_logger, folder) as handler:
                checkpoint, used = fit(job, arithmetic, params.resources, folder, handler)
            state = read_training_state(checkpoint)
            write_json(history, _lasting(state, used))
            run_logger.log(best_metrics(state.history[state.best_epoch - 1]), 0)
            write_bundle(bundle, describe_best(job, state, used), checkpoint / BEST_FILE)
            run_logger.end("FINISHED", bundle_tags(bundle))
            if not current_job():  # whose driver does it when the outs are stored
                shutil.rmtree(folder.path, ignore_errors=True)
    return state


@contextmanager
def _handling(
    params: Params, job: Job, run_logger: RunLogger, folder: RunFolder
) -> Iterator[EventHandler]:
    """Yield what takes in the events; the best weights are logged however the training ends."""
    best = BestWeights(run_logger, job, folder.checkpoints)
    with closing(ProgressBar(job.stage, job.recipe.epochs, len(job.training_set))) as bar:
        resources = params.resources
        if not runs_here(resources):  # some seconds until there is more to say
            joins = f"joins the Ray cluster at {resources.address}"
            bar.line("starts Ray's processes" if resources.address is None else joins)
        try:
            yield EventHandler(bar, run_logger, best, params.tracking.system_metrics)
        finally:
            best.look()


@contextmanager
def _recorded(params: Params, trained: Trained, job: Job, folder: RunFolder) -> Iterator[RunLogger]:
    """Yield the MLflow run of this training; an error or a signal ends it as FAILED or KILLED."""
    metadata = gather_metadata(params, trained, job.images_digest)
    journals = journal_folder(params.resources.runs)
    run_logger = RunLogger(params.tracking, metadata, journals, folder.path)
    with closing(run_logger):
        try:
            yield run_logger
        except KeyboardInterrupt:
            run_logger.abandon()
            raise
        except BaseException:
            run_logger.end("FAILED")
            raise


def _lasting(state: TrainingState, arithmetic: Arithmetic) -> list[dict[str, Any]]:
    """Return the history without the speed, with how it was computed and the epoch that is kept.

    It is the same for the same training, on any machine.
    """
    return [
        {name: value for name, value in record.items() if name != "images_per_s"}
        | {"kept": record["epoch"] == state.best_epoch, **asdict(arithmetic)}
        for record in state.history
    ]
