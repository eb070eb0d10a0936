"""A training from params to bundle: digests, tracking, Ray, and the files it leaves."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from pipeline.data.shards.shards import ImageSet
from pipeline.data.shards.statistics import files_digest
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
from pipeline.runtime.training.plan import Plan, plan_training
from pipeline.runtime.training.progress_bar import ProgressBar
from pipeline.vision.bundle.description import write_bundle
from pipeline.vision.bundle.digest import values_digest
from pipeline.vision.training.checkpoint import BEST_FILE
from pipeline.vision.training.training_state import Progress, read_progress


def train_bundle(params: Params, trained: Trained, *, bundle: Path, history: Path) -> Progress:
    """Train, and write the best network as a bundle.

    A call with the same params, images and code as one that was killed goes on from its last
    checkpoint.

    Args:
        params: all of them; the model is used here.
        trained: how to train, and on what.
        bundle: the folder to write.
        history: the JSON file to write, one record per epoch.

    Raises:
        PipelineError: see `plan_training` and `fit`.
    """
    with sigterm_interrupts():
        plan = plan_training(
            params, trained.recipe, images=trained.images, validation=trained.validation
        )
        name = f"{trained.stage}-{_identity(plan)}"
        folder = RunFolder(Path(params.resources.storage).resolve(), name)
        with _recorded(params, trained, plan, folder) as recorder:
            with _watching(trained, recorder) as watch:
                wanted = watch.load if params.tracking.system_metrics else None
                checkpoint = fit(plan.job, params.resources, folder, watch, wanted)
            progress = read_progress(checkpoint)
            write_json(history, _lasting(progress))
            recorder.log(best_metrics(progress.history[progress.best_epoch - 1]), 0)
            description = replace(plan.description, validation=_best_validation(progress))
            write_bundle(bundle, description, checkpoint / BEST_FILE)
            recorder.end("FINISHED", bundle_tags(bundle))
            shutil.rmtree(folder.path, ignore_errors=True)
    return progress


@contextmanager
def _watching(trained: Trained, recorder: Recorder) -> Iterator[EventHandler]:
    """Have the console and the tracking store watch a training."""
    images = len(ImageSet.open(*trained.images))
    with closing(ProgressBar(trained.stage, trained.recipe.epochs, images)) as bar:
        yield EventHandler(bar, recorder)


@contextmanager
def _recorded(
    params: Params, trained: Trained, plan: Plan, folder: RunFolder
) -> Iterator[Recorder]:
    """Open the MLflow run of this training; whoever leaves by an error ends it as it was."""
    facts = gather_facts(params, trained, plan.description.origin["data"])
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


def _identity(plan: Plan) -> str:
    """Digest all that the weights depend on: data, params, start and code."""
    package = Path(__file__).parents[2]
    values = {
        "description": asdict(plan.description),
        "recipe": plan.job.recipe.model_dump(mode="json"),
        "code": files_digest([package / "vision", package / "data"], "*.py"),
    }
    return values_digest(values)[:16]


def _best_validation(progress: Progress) -> dict[str, float]:
    """Return the validation metrics of the epoch whose weights the bundle holds."""
    best = progress.history[progress.best_epoch - 1]
    prefix = "val_"
    return {k.removeprefix(prefix): v for k, v in best.items() if k.startswith(prefix)}


def _lasting(progress: Progress) -> list[dict[str, float | bool]]:
    """Return the history with the epoch marked that the bundle holds, and without the speed.

    It is the same for the same training, on any machine.
    """
    return [
        {name: value for name, value in record.items() if name != "images_per_s"}
        | {"kept": record["epoch"] == progress.best_epoch}
        for record in progress.history
    ]
