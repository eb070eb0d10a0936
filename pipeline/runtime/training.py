"""A training from params to bundle: digests, tracking, Ray, and the files it leaves."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from pipeline.data.statistics import files_digest
from pipeline.files import write_json
from pipeline.params import Params, Training
from pipeline.runtime.epoch_bar import EpochBar
from pipeline.runtime.plan import plan_training
from pipeline.runtime.ray_train import RayRun, train_on_ray
from pipeline.runtime.tracking import BUNDLE_TAG, STAGE_TAG, TrackedRun, Untracked, start_run
from pipeline.vision.bundle import Description, save_bundle
from pipeline.vision.digest import bundle_digest, values_digest
from pipeline.vision.training.batches import Share
from pipeline.vision.training.job import Job
from pipeline.vision.training.trainer import BEST_FILE, Progress, Record, read_progress

_RUN_ID_FILE = "mlflow_run_id"


def train_bundle(
    params: Params,
    *,
    stage: str,
    recipe: Training,
    images: Sequence[Path],
    validation: Path,
    bundle: Path,
    history: Path,
) -> Progress:
    """Train, and write the best network as a bundle.

    A call with the same params, images and code as one that was killed goes on from its last
    checkpoint.

    Args:
        params: all of them; model and resources are used here.
        stage: 'train' or 'finetune'.
        recipe: how to train.
        images: folders of packed training images.
        validation: folder of packed validation images.
        bundle: the folder to write.
        history: the JSON file to write, one record per epoch.

    Raises:
        PipelineError: see `train_on_ray` and `Job.build`.
    """
    plan = plan_training(params, recipe, images=images, validation=validation)
    job, description = plan.job, plan.description
    # Built once here, so that a mistake is found before a cluster is started.
    _, loaded = job.build(Share(), torch.device("cpu"))
    if loaded:
        print(f"{stage}: from {recipe.weights}: {loaded}")
    storage = Path(params.resources.storage).resolve()
    run = RayRun(f"{stage}-{_identity(job, description)}", storage, params.resources)
    with _tracked(params, stage, description, run) as tracked:
        checkpoint = _follow_training(job, run, tracked, stage)
        progress = read_progress(checkpoint)
        write_json(history, [_lasting(record) for record in progress.history])
        description = replace(description, validation=_best_validation(progress))
        save_bundle(bundle, description, load_file(checkpoint / BEST_FILE))
        tracked.end("FINISHED", {BUNDLE_TAG: bundle_digest(bundle)})
    shutil.rmtree(run.folder, ignore_errors=True)
    return progress


def _follow_training(job: Job, run: RayRun, tracked: TrackedRun | Untracked, stage: str) -> Path:
    """Train while the console and the tracking store follow; return the last checkpoint."""
    bar = EpochBar(stage, job.recipe.epochs)

    def follow(record: Record) -> None:
        bar.show(record)
        tracked.log({k: v for k, v in record.items() if k != "epoch"}, int(record["epoch"]))

    try:
        return train_on_ray(job, run, follow)
    finally:
        bar.close()


@contextmanager
def _tracked(
    params: Params, stage: str, description: Description, run: RayRun
) -> Iterator[TrackedRun | Untracked]:
    """Open the MLflow run of this training; whoever leaves by an error ends it as it was."""
    sections = ("data", "pack", "balance", "model", stage)
    tracked = start_run(
        params.tracking,
        name=stage,
        params={name: params.section(name) for name in sections},
        tags={STAGE_TAG: stage, "convoy.data": description.origin["data"], **_commit()},
        remember=run.folder / _RUN_ID_FILE,
    )
    try:
        yield tracked
    except BaseException as error:
        tracked.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise


def _identity(job: Job, description: Description) -> str:
    """Digest all that the weights depend on: data, params, start and code."""
    package = Path(__file__).parents[1]
    values = {
        "description": asdict(description),
        "recipe": job.recipe.model_dump(mode="json"),
        "code": files_digest([package / "vision", package / "data"], "*.py"),
    }
    return values_digest(values)[:16]


def _best_validation(progress: Progress) -> dict[str, float]:
    """Return the validation metrics of the epoch whose weights the bundle holds."""
    best = progress.history[progress.best_epoch - 1]
    prefix = "val_"
    return {k.removeprefix(prefix): v for k, v in best.items() if k.startswith(prefix)}


def _lasting(record: Record) -> Record:
    """Leave out the speed: the history is the same for the same training, on any machine."""
    return {name: value for name, value in record.items() if name != "images_per_s"}


def _commit() -> dict[str, str]:
    """Return the tag by which MLflow knows the git commit; none outside a checkout."""
    asked = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return {"mlflow.source.git.commit": asked.stdout.strip()} if asked.returncode == 0 else {}
