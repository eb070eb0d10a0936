"""From params, packed images and first weights to a job. Without torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.shards.shards import ImageSet
from pipeline.data.shards.statistics import channel_statistics, images_digest
from pipeline.errors import PipelineError
from pipeline.params.choices.networks import Model
from pipeline.params.choices.training import Training
from pipeline.vision.bundle.description import RANDOM_WEIGHTS
from pipeline.vision.training.job import Job
from pipeline.vision.weights.normalization import IMAGENET_MEAN, IMAGENET_STD, for_channels


@dataclass(frozen=True)
class InitialWeights:
    """The first weights of a training.

    Attributes:
        weights: a .safetensors file or a bundle folder, absolute; None: random.
        origin: what identifies them.
        normalization: mean and std per channel of pixels in [0, 1] that they were trained with;
            None where they are unknown.
    """

    weights: Path | None = None
    origin: str = RANDOM_WEIGHTS
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None


def make_job(
    stage: str,
    model: Model,
    recipe: Training,
    *,
    images: Sequence[Path],
    validation: Path,
    initial: InitialWeights,
) -> Job:
    """Say what will be trained.

    Args:
        stage: 'train' or 'finetune'.
        model: which network.
        recipe: how to train.
        images: folders of packed training images.
        validation: folder of packed validation images.
        initial: the first weights.

    Raises:
        PipelineError: sets that are not there, or cannot train or choose a network.
    """
    training_set, validation_set = ImageSet.open(*images), ImageSet.open(validation)
    _check_sets(training_set, validation_set)
    if recipe.trainable == "probe":  # which takes one step per epoch
        recipe = recipe.model_copy(update={"global_batch_size": len(training_set)})
    mean, std = _normalization(recipe, training_set, initial)
    job = Job(
        stage=stage,
        images=tuple(folder.resolve() for folder in images),
        validation=validation.resolve(),
        images_digest=images_digest(images),
        validation_digest=images_digest([validation]),
        classes=training_set.info.classes,
        preprocessing=training_set.info.preprocessing,
        mean=mean,
        std=std,
        network=model.name,
        args=model.model_dump(mode="json")["args"],
        weights=initial.weights,
        origin=initial.origin,
        recipe=recipe,
    )
    # They are open already: in this process the job needs not open them again.
    vars(job).update(training_set=training_set, validation_set=validation_set)
    return job


def make_trial_job(
    stage: str,
    model: Model,
    recipe: Training,
    *,
    images: Sequence[Path],
    validation: Path,
) -> Job:
    """Return a job to time steps with: as `make_job`, without reading all of the images.

    It starts from random weights, and its normalisation and digests are those of no set.

    Raises:
        PipelineError: see `make_job`.
    """
    training_set, validation_set = ImageSet.open(*images), ImageSet.open(validation)
    _check_sets(training_set, validation_set)
    channels = training_set.info.shape[2]
    return Job(
        stage=stage,
        images=tuple(folder.resolve() for folder in images),
        validation=validation.resolve(),
        images_digest="",
        validation_digest="",
        classes=training_set.info.classes,
        preprocessing=training_set.info.preprocessing,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        network=model.name,
        args=model.model_dump(mode="json")["args"],
        weights=None,
        origin=RANDOM_WEIGHTS,
        recipe=recipe.model_copy(update={"weights": None}),
    )


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
    recipe: Training, images: ImageSet, initial: InitialWeights
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std per channel, of pixels in [0, 1]."""
    channels = images.info.shape[2]
    known = initial.normalization if recipe.normalization == "auto" else None
    if known and len(known[0]) == channels:
        return known
    if known is None and recipe.normalization != "imagenet":
        return channel_statistics(images)
    mean, std = known or (IMAGENET_MEAN, IMAGENET_STD)
    return for_channels(mean, channels), for_channels(std, channels)
