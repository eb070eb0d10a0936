"""The network and the trainer of one worker, built from a job."""

from pathlib import Path

import torch

from pipeline.errors import PipelineError, some
from pipeline.params.choices.training import ProgressiveResizing, Training
from pipeline.vision.bundle.description import read_description
from pipeline.vision.bundle.digest import DESCRIPTION_FILE
from pipeline.vision.networks import Classifier
from pipeline.vision.networks import build_network as build_by_name
from pipeline.vision.training.batches import Share
from pipeline.vision.training.compute_config import ComputeConfig
from pipeline.vision.training.job import Job
from pipeline.vision.training.resizing import small_side, small_until
from pipeline.vision.training.sync_norm import synchronise_norms
from pipeline.vision.training.trainer import Trainer
from pipeline.vision.training.worker import Worker
from pipeline.vision.weights.loading import Loaded, load_weights


def build_network(job: Job) -> tuple[Classifier, Loaded | None]:
    """Build the network of `job` with its first weights, seeded.

    Raises:
        PipelineError: network or weights that are not there or do not fit.
    """
    torch.manual_seed(job.recipe.seed)
    shape = job.preprocessing.channels, job.preprocessing.height, job.preprocessing.width
    network = build_by_name(job.network, job.args, shape, len(job.classes))
    loaded = None
    if job.weights:
        loaded = load_weights(network, job.weights, head=_may_share_classes(job, job.weights))
    if loaded and "head.weight" in loaded.new:
        network.silence_head()
    _check_size(network, shape, job.recipe)
    if loaded and job.recipe.trainable != "all":
        _check_nothing_random_is_frozen(loaded, job.recipe.trainable)
    return network, loaded


def build_trainer(job: Job, share: Share, device: torch.device, compute: ComputeConfig) -> Trainer:
    """Open the images of `job` and build the trainer of one worker.

    Raises:
        PipelineError: see `build_network`; or images that are not there, or fewer than workers.
    """
    network, loaded = build_network(job)
    job.check_shares(share.workers)
    if share.workers > 1 and job.recipe.sync_batch_norm:
        synchronise_norms(network)
    return Trainer(network, job, Worker(share, device, compute.arithmetic), loaded)


def _may_share_classes(job: Job, weights: Path) -> bool:
    """Whether rows of a head mean the same classes; only a bundle says which they are."""
    if not (weights / DESCRIPTION_FILE).is_file():
        return True
    return read_description(weights).classes == job.classes


def _check_size(network: Classifier, shape: tuple[int, int, int], recipe: Training) -> None:
    """Run one of the smaller images through, if there are any: some networks take one size only."""
    if not small_until(recipe):
        return
    assert isinstance(recipe.resizing, ProgressiveResizing)
    channels, *sides = shape
    height, width = (small_side(side, recipe.resizing.scale) for side in sides)
    network.eval()
    try:
        with torch.inference_mode():
            network(torch.zeros(1, channels, height, width))
    except RuntimeError as error:
        raise PipelineError(
            f"resizing: progressive: the network does not take images of {height} x {width} px"
            f" ({error}); raise resizing.scale, or set resizing.name: none"
        ) from error
    network.train()


def _check_nothing_random_is_frozen(loaded: Loaded, trainable: str) -> None:
    frozen = [name for name in loaded.new if name.startswith("extractor.")]
    if frozen:
        raise PipelineError(
            f"trainable: {trainable} would freeze layers that the weights do not hold"
            f" ({some(frozen, 3)}); set trainable: all, or give weights for this network"
        )
