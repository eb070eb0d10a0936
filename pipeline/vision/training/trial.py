"""The first steps of a training, taken on copies: to time them and to see their losses."""

import copy
import math
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count

import numpy as np
import torch

from pipeline.params.choices.training import WholeSize
from pipeline.vision.bundle.inputs import Normalization
from pipeline.vision.training.augment import build_augment
from pipeline.vision.training.batches import Batches, BatchPlan, Share
from pipeline.vision.training.building import build_network
from pipeline.vision.training.compute_config import ComputeConfig
from pipeline.vision.training.error_translation import translate_errors
from pipeline.vision.training.job import Job
from pipeline.vision.training.priors import target_counts
from pipeline.vision.training.schedule import learning_rate
from pipeline.vision.training.sources import MappedPixels, PixelTransform
from pipeline.vision.training.step import TrainStep
from pipeline.vision.training.worker import Worker

_FORWARD_ROWS = 64
_FORWARD_TIMES = 3


class Trial:
    """Takes the steps that a worker's training begins with, in any way of computing.

    The batches, the first weights, the seeds and the rates are those of the training, but that
    all layers that are trained sooner or later are trained, and that the batches may be smaller.
    Workers do not exchange anything.
    """

    def __init__(self, job: Job, share: Share, device: torch.device, part: float) -> None:
        """Build the network; torch's global generator moves on.

        Args:
            job: the training.
            share: this worker's.
            device: that computes.
            part: of each batch's images that are taken, in (0, 1].

        Raises:
            PipelineError: see `build_network`.
        """
        self._job, self._share, self._device = job, share, device
        size = max(int(batch_rows(job) * part), 1)
        # Of images of their own size: smaller ones take less of all.
        whole = {"global_batch_size": size, "resizing": WholeSize(name="none")}
        self._recipe = job.recipe.model_copy(update=whole)
        self._network, _ = build_network(job)

    def steps(self, compute: ComputeConfig) -> Generator[tuple[float, float]]:
        """Take one step after another on a copy of the network.

        Yields:
            The mean loss of this worker's part of the batch, and the seconds of the step.

        Raises:
            PipelineError: see `translate_errors`.
        """
        job, recipe = self._job, self._recipe
        memory_format = compute.arithmetic.torch_format
        network = copy.deepcopy(self._network)
        network.to(self._device, memory_format=memory_format)  # type: ignore[call-overload]
        info = job.training_set.info
        augment = build_augment(recipe.augment, info.shape) if recipe.augment else None
        normalization = Normalization.of(job.mean, job.std, self._device)
        transform = PixelTransform.of(info, normalization, augment, memory_format)
        source = MappedPixels(job.training_set, transform, pin=self._device.type == "cuda")
        worker = Worker(Share(), self._device, compute.arithmetic)
        step = TrainStep(network, network, source=source, recipe=recipe, worker=worker)
        last, class_counts = recipe.epochs - 1, job.training_set.class_counts()
        step.begin_epoch(last, target_counts(class_counts, recipe, last, info.shape[:2]))
        batches = Batches(source, recipe, augment, info.shape[:2])
        for number, plan in enumerate(self._plans(batches)):
            begin = time.perf_counter()
            with _threads(compute.threads), translate_errors():
                loss = step(plan, self._rate(number))
                if self._device.type == "cuda":
                    torch.cuda.synchronize(self._device)
            yield float(loss), time.perf_counter() - begin

    def forward_seconds(self, compute: ComputeConfig) -> float:
        """Return the seconds that an image takes which goes forward alone, the best of some."""
        job, device = self._job, self._device
        network = copy.deepcopy(self._network).eval()
        memory_format = compute.arithmetic.torch_format
        network.to(device, memory_format=memory_format)  # type: ignore[call-overload]
        rows = np.arange(min(len(job.training_set), _FORWARD_ROWS))
        normalization = Normalization.of(job.mean, job.std, device)
        info = job.training_set.info
        transform = PixelTransform.of(info, normalization, None, memory_format)
        source, fastest = MappedPixels(job.training_set, transform, pin=False), math.inf
        worker = Worker(Share(), device, compute.arithmetic)
        with torch.inference_mode(), _threads(compute.threads), worker.autocast():
            for _ in range(_FORWARD_TIMES):
                begin = time.perf_counter()
                network(source.prepare(source.fetch(rows).to(device), {})).sum().item()
                fastest = min(fastest, time.perf_counter() - begin)
        return fastest / len(rows) / self._share.workers

    def _plans(self, batches: Batches) -> Iterator[BatchPlan]:
        for epoch in count():
            for plan in batches.stream(self._share, epoch, 0):
                rows = len(plan.mixing.own) if plan.mixing else len(plan.labels) // plan.views
                yield replace(plan, global_size=rows)

    def _rate(self, step: int) -> float:
        recipe, steps = self._job.recipe, self._job.steps_per_epoch
        whole = recipe.epochs * steps
        return learning_rate(
            min(step, whole - 1),
            steps=whole,
            steps_per_epoch=steps,
            schedule=recipe.schedule,
            peak=recipe.optimizer.lr,
        )


def training_steps(job: Job) -> float:
    """Return how many steps of `Trial.steps` take as long as the whole training.

    Validation is left out. Where features of a frozen extractor are computed once, that is the
    training: the steps of the head take next to no time.
    """
    if not job.recipe.same_features:
        return job.recipe.epochs * job.steps_per_epoch
    return (len(job.training_set) + len(job.validation_set)) / batch_rows(job)


def batch_rows(job: Job) -> float:
    """Return the mean number of images in a global batch."""
    return len(job.training_set) / job.steps_per_epoch


@contextmanager
def _threads(threads: int) -> Iterator[None]:
    """Let torch use so many threads within a block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
