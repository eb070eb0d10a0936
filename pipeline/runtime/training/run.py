"""A training from params to bundle: digests, tracking, Ray, and the files it leaves."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pipeline.files import write_json
from pipeline.params import Params
from pipeline.runtime.ray.cluster import Cluster
from pipeline.runtime.ray.fit import train_on_ray
from pipeline.runtime.session.interrupts import sigterm_interrupts
from pipeline.runtime.session.run_folder import RunFolder
from pipeline.runtime.tracking.journal import spool_folder
from pipeline.runtime.tracking.provenance import provenance
from pipeline.runtime.tracking.run_logger import Recorder, start_run
from pipeline.runtime.tracking.run_metadata import best_metrics, bundle_tags, gather_facts
from pipeline.runtime.tracking.trained import Trained
from pipeline.runtime.training.event_handler import EventHandler
from pipeline.runtime.training.initial_weights import find_initial_weights
from pipeline.runtime.training.progress_bar import ProgressBar
from pipeline.vision.bundle.description import write_bundle
from pipeline.vision.training.checkpoint import BEST_FILE
from pipeline.vision.training.job import Job
from pipeline.vision.training.make_job import make_job
from pipeline.vision.training.training_state import TrainingState, read_training_state
from pipeline.vision.training.versions import code_digest, library_versions


def train_bundle(
    params: Params, cluster: Cluster, trained: Trained, *, bundle: Path, history: Path
) -> TrainingState:
    """Train, and write the best network as a bundle.

    A call with the same params, images and code as one that was killed goes on from its last
    checkpoint.

    Args:
        params: all of them; the model is used here.
        cluster: where; it is closed once the training has ended.
        trained: how to train, and on what.
        bundle: the folder to write.
        history: the JSON file to write, one record per epoch.

    Raises:
        PipelineError: see `make_job`, `find_initial_weights` and `train_on_ray`.
    """
    with sigterm_interrupts():
        job = make_job(
            trained.stage,
            params.model,
            trained.recipe,
            images=trained.images,
            validation=trained.validation,
            initial=find_initial_weights(params, trained.recipe),
        )
        name = f"{job.stage}-{job.identity(None, library_versions(), code_digest())[:16]}"
        folder = RunFolder(Path(params.resources.storage).resolve(), name)
        with _recorded(params, trained, job, folder) as recorder:
            with _watching(cluster, job, recorder) as watch:
                wanted = watch.load if params.tracking.system_metrics else None
                checkpoint = train_on_ray(cluster, job, folder, watch, wanted)
            cluster.close()
            progress = read_training_state(checkpoint)
            write_json(history, _lasting(progress))
            recorder.log(best_metrics(progress.history[progress.best_epoch - 1]), 0)
            description = job.description(_best_validation(progress), None)
            write_bundle(bundle, description, checkpoint / BEST_FILE)
            recorder.end("FINISHED", bundle_tags(bundle))
            shutil.rmtree(folder.path, ignore_errors=True)
    return progress


@contextmanager
def _watching(cluster: Cluster, job: Job, recorder: Recorder) -> Iterator[EventHandler]:
    """Have the console and the tracking store watch a training."""
    images = len(job.training_set)
    with closing(ProgressBar(job.stage, job.recipe.epochs, images)) as bar:
        yield EventHandler(bar, recorder, cluster)


@contextmanager
def _recorded(params: Params, trained: Trained, job: Job, folder: RunFolder) -> Iterator[Recorder]:
    """Open the MLflow run of this training; whoever leaves by an error ends it as it was."""
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


def _best_validation(progress: TrainingState) -> dict[str, float]:
    """Return the validation metrics of the epoch whose weights the bundle holds."""
    best = progress.history[progress.best_epoch - 1]
    prefix = "val_"
    return {k.removeprefix(prefix): v for k, v in best.items() if k.startswith(prefix)}


def _lasting(progress: TrainingState) -> list[dict[str, float | bool]]:
    """Return the history with the epoch marked that the bundle holds, and without the speed.

    It is the same for the same training, on any machine.
    """
    return [
        {name: value for name, value in record.items() if name != "images_per_s"}
        | {"kept": record["epoch"] == progress.best_epoch}
        for record in progress.history
    ]
