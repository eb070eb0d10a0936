"""A training from a job to a bundle: tracking, Ray, and the files it leaves."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.files import write_json
from pipeline.params import Params
from pipeline.runtime.ray.fit import fit
from pipeline.runtime.session.interrupts import sigterm_interrupts
from pipeline.runtime.session.run_folder import RunFolder
from pipeline.runtime.tracking.journal import spool_folder
from pipeline.runtime.tracking.provenance import provenance
from pipeline.runtime.tracking.run_logger import Recorder, start_run
from pipeline.runtime.tracking.run_metadata import best_metrics, bundle_tags, gather_facts
from pipeline.runtime.tracking.trained import Trained
from pipeline.runtime.training.event_handler import EventHandler
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
    arithmetic: Arithmetic | None,
    *,
    bundle: Path,
    history: Path,
) -> TrainingState:
    """Train, and write the best network as a bundle.

    A call with the same job, libraries and code as one that was killed goes on from its last
    checkpoint.

    Args:
        params: resources, tracking, and what the MLflow run records of the rest.
        job: what to train.
        trained: the same, as its run records it.
        arithmetic: how to compute; None: the worker chooses.
        bundle: the folder to write.
        history: the JSON file to write, one record per epoch.

    Raises:
        PipelineError: see `fit`.
    """
    with sigterm_interrupts():
        identity = job.identity(arithmetic, library_versions(), code_digest())
        storage = Path(params.resources.storage).resolve()
        folder = RunFolder(storage, f"{job.stage}-{identity[:16]}")
        with _recorded(params, trained, job, folder) as recorder:
            images = len(job.training_set)
            with closing(ProgressBar(job.stage, job.recipe.epochs, images)) as bar:
                handler = EventHandler(bar, recorder, params.tracking.system_metrics)
                checkpoint, used = fit(job, arithmetic, params.resources, folder, handler)
            state = read_training_state(checkpoint)
            write_json(history, _lasting(state, used))
            recorder.log(best_metrics(state.history[state.best_epoch - 1]), 0)
            write_bundle(
                bundle, job.description(_best_validation(state), used), checkpoint / BEST_FILE
            )
            recorder.end("FINISHED", bundle_tags(bundle))
            shutil.rmtree(folder.path, ignore_errors=True)
    return state


@contextmanager
def _recorded(params: Params, trained: Trained, job: Job, folder: RunFolder) -> Iterator[Recorder]:
    """Open the MLflow run of this training; an error or a signal ends it as FAILED or KILLED."""
    facts = gather_facts(params, trained, job.images_digest)
    recorder = start_run(
        params.tracking,
        name=facts.name,
        params=facts.params,
        tags=facts.tags | provenance(trained.inputs),
        datasets=facts.datasets,
        spools=spool_folder(params.resources.storage),
        folder=folder.path,
    )
    with closing(recorder):
        try:
            yield recorder
        except KeyboardInterrupt:
            recorder.abandon()
            raise
        except BaseException:
            recorder.end("FAILED")
            raise


def _best_validation(state: TrainingState) -> dict[str, float]:
    """Return the validation metrics of the epoch whose weights the bundle holds."""
    best = state.history[state.best_epoch - 1]
    prefix = "val_"
    return {k.removeprefix(prefix): v for k, v in best.items() if k.startswith(prefix)}


def _lasting(state: TrainingState, arithmetic: Arithmetic) -> list[dict[str, Any]]:
    """Return the history without the speed, with how it was computed and the epoch that is kept.

    It is the same for the same training, on any machine.
    """
    return [
        {name: value for name, value in record.items() if name != "images_per_s"}
        | {"kept": record["epoch"] == state.best_epoch, **asdict(arithmetic)}
        for record in state.history
    ]
