"""What a training will be: the job and the description of its model, from params and images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.shards.shards import ImageSet
from pipeline.data.shards.statistics import channel_statistics, images_digest
from pipeline.errors import PipelineError
from pipeline.params import Params, Training
from pipeline.runtime.training.initial_weights import InitialWeights, find_initial_weights
from pipeline.vision.bundle.description import Description
from pipeline.vision.bundle.digest import values_digest
from pipeline.vision.training.job import Job


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
    start = find_initial_weights(params, recipe)
    mean, std = _normalization(recipe, training_set, start)
    description = Description(
        network=params.model.name,
        args=params.section("model")["args"],
        classes=training_set.info.classes,
        preprocessing=training_set.info.preprocessing,
        mean=mean,
        std=std,
        origin={
            "data": images_digest(images),
            "params": values_digest([params.section("model"), recipe.model_dump(mode="json")]),
            "weights": start.origin,
        },
    )
    job = Job(
        images=tuple(folder.resolve() for folder in images),
        validation=validation.resolve(),
        network=description.network,
        args=description.args,
        weights=start.weights,
        mean=mean,
        std=std,
        sync_norms=params.resources.sync_batch_norm,
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


def _normalization(
    recipe: Training, images: ImageSet, start: InitialWeights
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std per channel, of pixels in [0, 1]."""
    channels = images.info.shape[2]
    known = start.normalization if recipe.normalization == "auto" else None
    if known and len(known[0]) == channels:
        return known
    if known is None and recipe.normalization != "imagenet":
        return channel_statistics(images)
    # Only now: it brings torch, see `Job`.
    from pipeline.vision.weights import IMAGENET_MEAN, IMAGENET_STD, per_channel

    mean, std = known or (IMAGENET_MEAN, IMAGENET_STD)
    return per_channel(mean, channels), per_channel(std, channels)
