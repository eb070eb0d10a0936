"""A training from params to bundle: digests, tracking, Ray, and the files it leaves."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

from pipeline.data.shards.shards import ImageSet
from pipeline.data.shards.statistics import files_digest
from pipeline.files import write_json
from pipeline.params import Params
from pipeline.runtime.ray.cluster import Cluster
from pipeline.runtime.ray.fit import train_on_ray
from pipeline.runtime.session.interrupts import sigterm_interrupts
from pipeline.runtime.session.run_folder import RunFolder
from pipeline.runtime.tracking.journal import journal_folder
from pipeline.runtime.tracking.run_logger import RunLogger
from pipeline.runtime.tracking.run_metadata import best_metrics, bundle_tags, gather_metadata
from pipeline.runtime.tracking.trained import Trained
from pipeline.runtime.training.event_handler import BestWeights, EventHandler, describe_best
from pipeline.runtime.training.plan import Plan, plan_training
from pipeline.runtime.training.progress_bar import ProgressBar
from pipeline.vision.bundle.description import write_bundle
from pipeline.vision.bundle.digest import values_digest
from pipeline.vision.training.checkpoint import BEST_FILE
from pipeline.vision.training.training_state import Progress, read_progress


def train_bundle(
    params: Params, cluster: Cluster, trained: Trained, *, bundle: Path, history: Path
) -> Progress:
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
        PipelineError: see `plan_training` and `train_on_ray`.
    """
    with sigterm_interrupts():
        plan = plan_training(
            params, trained.recipe, images=trained.images, validation=trained.validation
        )
        name = f"{trained.stage}-{_identity(plan)}"
        folder = RunFolder(Path(params.resources.storage).resolve(), name)
        with _recorded(params, trained, plan, folder) as run_logger:
            best = BestWeights(run_logger, plan.description, folder.checkpoints)
            with _watching(cluster, trained, run_logger, best) as watch:
                wanted = watch.load if params.tracking.system_metrics else None
                checkpoint = train_on_ray(cluster, plan.job, folder, watch, wanted)
            cluster.close()
            progress = read_progress(checkpoint)
            write_json(history, _lasting(progress))
            run_logger.log(best_metrics(progress.history[progress.best_epoch - 1]), 0)
            description = describe_best(plan.description, progress)
            write_bundle(bundle, description, checkpoint / BEST_FILE)
            run_logger.end("FINISHED", bundle_tags(bundle))
            shutil.rmtree(folder.path, ignore_errors=True)
    return progress


@contextmanager
def _watching(
    cluster: Cluster, trained: Trained, run_logger: RunLogger, best: BestWeights
) -> Iterator[EventHandler]:
    """Have the console and the tracking store watch a training, however it ends."""
    images = len(ImageSet.open(*trained.images))
    with closing(ProgressBar(trained.stage, trained.recipe.epochs, images)) as bar:
        try:
            yield EventHandler(bar, run_logger, cluster, best)
        finally:
            best.look()


@contextmanager
def _recorded(
    params: Params, trained: Trained, plan: Plan, folder: RunFolder
) -> Iterator[RunLogger]:
    """Yield the MLflow run of this training; after an error it ends as the error says."""
    metadata = gather_metadata(params, trained, plan.description.origin["data"])
    journals = journal_folder(params.resources.storage)
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


def _identity(plan: Plan) -> str:
    """Digest all that the weights depend on: data, params, start and code."""
    package = Path(__file__).parents[2]
    values = {
        "description": asdict(plan.description),
        "recipe": plan.job.recipe.model_dump(mode="json"),
        "code": files_digest([package / "vision", package / "data"], "*.py"),
    }
    return values_digest(values)[:16]


def _lasting(progress: Progress) -> list[dict[str, float | bool]]:
    """Return the history with the epoch marked that the bundle holds, and without the speed.

    It is the same for the same training, on any machine.
    """
    return [
        {name: value for name, value in record.items() if name != "images_per_s"}
        | {"kept": record["epoch"] == progress.best_epoch}
        for record in progress.history
    ]
