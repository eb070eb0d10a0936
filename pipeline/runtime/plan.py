"""What a training will be: the job and the description of its model, from params and images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.shards import ImageSet
from pipeline.data.statistics import channel_statistics, files_digest
from pipeline.errors import PipelineError
from pipeline.params import Params, Training
from pipeline.vision.bundle import Description, read_description
from pipeline.vision.digest import DESCRIPTION_FILE, bundle_digest, values_digest
from pipeline.vision.training.job import Job
from pipeline.vision.weights import weights_file


@dataclass(frozen=True)
class Plan:
    """A training before it runs.

    Attributes:
        job: what to train; `job.build` makes the trainer.
        description: of the model that will come out, but for its validation metrics.
    """

    job: Job
    description: Description


def plan_training(
    params: Params, recipe: Training, *, images: Sequence[Path], validation: Path
) -> Plan:
    """Open the sets, find the weights to start from, and say what will be trained.

    Args:
        params: all of them; the model is used here.
        recipe: how to train.
        images: folders of packed training images.
        validation: folder of packed validation images.

    Raises:
        PipelineError: sets that cannot train or choose a network, or weights that are not there.
    """
    training_set, validation_set = ImageSet.open(*images), ImageSet.open(validation)
    _check_sets(training_set, validation_set)
    description = _describe(params, recipe, training_set, files_digest(images, "*.arrow"))
    job = Job(
        images=tuple(folder.resolve() for folder in images),
        validation=validation.resolve(),
        network=description.network,
        args=description.args,
        weights=Path(recipe.weights).resolve() if recipe.weights else None,
        mean=description.mean,
        std=description.std,
        recipe=recipe,
    )
    return Plan(job, description)


def _check_sets(images: ImageSet, validation: ImageSet) -> None:
    """Refuse sets that cannot train or choose a network."""
    for kind, found in (("training", images), ("validation", validation)):
        if not len(found):
            raise PipelineError(
                f"the {kind} set has no images; give more images or change split in params.yaml"
            )
    if images.info != validation.info:
        raise PipelineError(
            "training and validation images were packed differently; run dvc repro to pack them"
            " again"
        )


def _describe(params: Params, recipe: Training, images: ImageSet, digest: str) -> Description:
    """Describe the model that will come out, but for its validation metrics."""
    mean, std = channel_statistics(images)
    source = Path(recipe.weights) if recipe.weights else None
    start = "random"
    if source and (source / DESCRIPTION_FILE).is_file():
        # Weights are used with the normalisation that they were trained with.
        before = read_description(source)
        mean, std, start = before.mean, before.std, bundle_digest(source)
    elif source:
        file = weights_file(source)
        start = files_digest([file.parent], file.name)
    origin = {
        "data": digest,
        "params": values_digest([params.section("model"), recipe.model_dump(mode="json")]),
        "weights": start,
    }
    return Description(
        network=params.model.name,
        args=dict(params.model.args),
        classes=images.info.classes,
        preparing=images.info.preparing,
        mean=mean,
        std=std,
        origin=origin,
    )
