"""A training from params to bundle: digests, tracking, Ray, and the files it leaves."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipeline.data.shards import ImageSet
from pipeline.data.statistics import files_digest
from pipeline.files import write_json
from pipeline.params import Params, Training
from pipeline.runtime.plan import Plan, plan_training
from pipeline.runtime.ray.cluster import Cluster
from pipeline.runtime.ray.train import train_on_ray
from pipeline.runtime.recorder import Recorder, start_run
from pipeline.runtime.run_folder import RunFolder
from pipeline.runtime.spool import spool_folder
from pipeline.runtime.stopping import sigterm_interrupts
from pipeline.runtime.tracking import BUNDLE_TAG, STAGE_TAG, flatten
from pipeline.runtime.training_bar import TrainingBar
from pipeline.vision.description import Description, write_bundle
from pipeline.vision.digest import bundle_digest, values_digest
from pipeline.vision.training.checkpoint import BEST_FILE
from pipeline.vision.training.job import Job
from pipeline.vision.training.progress import Glance, Progress, Record, read_progress


def train_bundle(
    params: Params,
    cluster: Cluster,
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
        params: all of them; the model is used here.
        cluster: where; it is closed once the training has ended.
        stage: 'train' or 'finetune'.
        recipe: how to train.
        images: folders of packed training images.
        validation: folder of packed validation images.
        bundle: the folder to write.
        history: the JSON file to write, one record per epoch.

    Raises:
        PipelineError: see `plan_training` and `train_on_ray`.
    """
    with sigterm_interrupts():
        plan = plan_training(params, recipe, images=images, validation=validation)
        folder = RunFolder(Path(params.resources.storage).resolve(), f"{stage}-{_identity(plan)}")
        with _recorded(params, stage, plan.description, folder) as recorder:
            checkpoint = _train(cluster, plan.job, folder, recorder, stage)
            cluster.close()
            progress = read_progress(checkpoint)
            write_json(history, [_lasting(record) for record in progress.history])
            description = replace(plan.description, validation=_best_validation(progress))
            write_bundle(bundle, description, checkpoint / BEST_FILE)
            recorder.end("FINISHED", {BUNDLE_TAG: bundle_digest(bundle)})
            shutil.rmtree(folder.path, ignore_errors=True)
    return progress


class _Watch:
    """Hands the training's news to the console and the tracking store."""

    def __init__(self, bar: TrainingBar, recorder: Recorder, cluster: Cluster) -> None:
        self._bar, self._recorder, self._cluster = bar, recorder, cluster
        self._told: set[str] = set()

    def begin(self) -> None:
        self._recorder.open()

    def fact(self, name: str, text: str) -> None:
        if name == "compute" and name in self._told:
            self._bar.line(f"the workers were started anew; Ray's logs: {self._cluster.logs}")
        self._told.add(name)
        self._bar.line(text)
        self._recorder.tag(f"convoy.{name}", text)

    def record(self, record: Record) -> None:
        self._bar.record(record)
        metrics = {name: value for name, value in record.items() if name != "epoch"}
        self._recorder.log(metrics, int(record["epoch"]))

    def glance(self, glance: Glance) -> None:
        self._bar.glance(glance)


def _train(cluster: Cluster, job: Job, folder: RunFolder, recorder: Recorder, stage: str) -> Path:
    """Train while the console and the tracking store watch; return the last checkpoint."""
    images = len(ImageSet.open(*job.images))
    with closing(TrainingBar(stage, job.recipe.epochs, images)) as bar:
        return train_on_ray(cluster, job, folder, _Watch(bar, recorder, cluster))


@contextmanager
def _recorded(
    params: Params,
    stage: str,
    description: Description,
    folder: RunFolder,
) -> Iterator[Recorder]:
    """Open the MLflow run of this training; whoever leaves by an error ends it as it was."""
    recorder = start_run(
        params.tracking,
        name=stage,
        params={name: str(value) for name, value in flatten(_logged(params, stage)).items()},
        tags={STAGE_TAG: stage, "convoy.data": description.origin["data"], **_commit()},
        datasets=[],
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


def _logged(params: Params, stage: str) -> dict[str, Any]:
    """Return the sections of params that a training depends on."""
    return {name: params.section(name) for name in ("data", "pack", "balance", "model", stage)}


def _identity(plan: Plan) -> str:
    """Digest all that the weights depend on: data, params, start and code."""
    package = Path(__file__).parents[1]
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


def _lasting(record: Record) -> Record:
    """Leave out the speed: the history is the same for the same training, on any machine."""
    return {name: value for name, value in record.items() if name != "images_per_s"}


def _commit() -> dict[str, str]:
    """Return the tag by which MLflow knows the git commit; none outside a checkout."""
    asked = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return {"mlflow.source.git.commit": asked.stdout.strip()} if asked.returncode == 0 else {}
