"""The one training loop: from scratch, transferred or fine-tuned, on one worker or many."""

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import nn

from pipeline.errors import PipelineError
from pipeline.vision.bundle.inputs import Normalization
from pipeline.vision.networks import Classifier
from pipeline.vision.training.async_scalar import AsyncScalar
from pipeline.vision.training.augment import build_augment
from pipeline.vision.training.batches import Batches, BatchPlan, starts_at
from pipeline.vision.training.checkpoint import read_best, read_tensors, write_checkpoint
from pipeline.vision.training.error_translation import translate_errors
from pipeline.vision.training.features import extract_features
from pipeline.vision.training.freezing import settled_at
from pipeline.vision.training.job import Job
from pipeline.vision.training.norm_statistics import batches_needed
from pipeline.vision.training.priors import target_counts
from pipeline.vision.training.probe import probe_rows
from pipeline.vision.training.probe_step import ProbeStep
from pipeline.vision.training.resizing import small_until
from pipeline.vision.training.schedule import learning_rate
from pipeline.vision.training.sources import (
    MappedPixels,
    PixelTransform,
    Source,
    open_pixels,
)
from pipeline.vision.training.step import TrainStep
from pipeline.vision.training.symptoms import loud_start, one_class
from pipeline.vision.training.training_state import (
    EpochProgress,
    Record,
    TrainingState,
    read_training_state,
)
from pipeline.vision.training.validation import validate
from pipeline.vision.training.worker import Worker
from pipeline.vision.weights.loading import Loaded

# Input values of a validation batch: enough to be quick, few enough for a processor's caches.
_VALIDATION_VALUES = 2**21
_MOST_VALIDATION_ROWS = 512


class Trainer:
    """Trains a network epoch by epoch; can be saved and restored between any two steps.

    With several workers each process holds one; torch.distributed must be initialised, and
    every one must make the same calls.

    Attributes:
        state: how far the training is.
        best_weights: of the best epoch so far, on the CPU.
    """

    def __init__(
        self, network: Classifier, job: Job, worker: Worker, loaded: Loaded | None = None
    ) -> None:
        """Open the images of `job`, and move `network` to the device to be trained on them.

        `loaded` says what its first weights came from.
        """
        self.loaded, self._job = loaded, job
        recipe, info = job.recipe, job.training_set.info
        self.state, self._recipe, self._worker = TrainingState(), recipe, worker
        width = network.head.in_features
        memory_format = worker.arithmetic.torch_format
        network.to(worker.device, memory_format=memory_format)  # type: ignore[call-overload]
        augment = build_augment(recipe.augment, info.shape) if recipe.augment else None
        normalization = Normalization.of(job.mean, job.std, worker.device)
        transform = PixelTransform.of(info, normalization, augment, memory_format)
        unchanged = replace(transform, augment=None)
        source: Source = open_pixels(job.training_set, transform, worker.device)
        validation: Source = open_pixels(job.validation_set, unchanged, worker.device)
        plain: Source = MappedPixels(job.training_set, unchanged, worker.device.type == "cuda")
        trained, below = cast("nn.Module", network), network.extractor
        rows = max(1, min(_MOST_VALIDATION_ROWS, _VALIDATION_VALUES // math.prod(info.shape)))
        if recipe.same_features:
            source, validation = (
                extract_features(pixels, below, width, batch_size=rows, worker=worker)
                for pixels in (source, validation)
            )
            plain, below = source, nn.Identity()
            trained, rows = network.head, _MOST_VALIDATION_ROWS  # features are small
        self._features = partial(
            extract_features, plain, below, width, batch_size=rows, worker=worker
        )
        self._batches = Batches(source, recipe, augment, info.shape[:2])
        self._class_counts = partial(
            target_counts, job.training_set.class_counts(), recipe, shape=info.shape[:2]
        )
        kind = ProbeStep if recipe.trainable == "probe" else TrainStep
        self._step = kind(network, trained, source=source, recipe=recipe, worker=worker)
        classes = len(info.classes)
        self._measure = partial(
            validate, source=validation, classes=classes, batch_size=rows, worker=worker
        )
        self.best_weights = self._step.weights()
        self._stream: Iterator[BatchPlan] | None = None
        self._losses = torch.zeros(self.steps_per_epoch, device=worker.device)
        self._latest_loss = AsyncScalar(worker.device)

    @property
    def network(self) -> Classifier:
        """The network that is trained, on the device."""
        return self._step.network

    @property
    def done(self) -> bool:
        """Whether all epochs are done or patience has run out."""
        state, recipe = self.state, self._recipe
        return (
            state.epochs_done >= recipe.epochs
            or state.epochs_without_gain >= recipe.early_stopping.patience
        )

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of one epoch."""
        return self._batches.steps_per_epoch

    def advance(self, steps: int) -> Record | None:
        """Take up to `steps` steps, never past the end of the epoch.

        Returns:
            At the end of the epoch, after validation, its record: epoch (from 1), lr (of its
            last step), train_loss, val_loss (nats), val_accuracy, val_balanced_accuracy,
            val_macro_f1, val_predicted_classes, images_per_s (of training, over all workers).
            Before, None.

        Raises:
            PipelineError: a loss is not finite; names the step. Or see `translate_errors`.
        """
        begin = time.perf_counter()
        start = self.state.steps_done
        stop = min(start + steps, self.steps_per_epoch)
        stream = self._stream or self._begin_epoch()
        with translate_errors():
            for step in range(start, stop):
                self._losses[step] = self._step(next(stream), self._rate(step))
        if self._worker.share.workers > 1:
            torch.distributed.all_reduce(self._losses[start:stop])
        self.state.steps_done = stop
        if not self._latest_loss.exchange(self._losses[start:stop].mean()):
            self.check_finite()
        if stop == self.steps_per_epoch:
            self.check_finite()  # waits for the device, so that the clock is right
        self.state.seconds += time.perf_counter() - begin
        return self._end_epoch() if stop == self.steps_per_epoch else None

    def step_at(self, rate: float) -> float:
        """Take one step at a learning rate of `rate` and return its loss, finite or not.

        For the learning-rate range test; epochs follow each other without validation.
        """
        state = self.state
        stream = self._stream or self._begin_epoch()
        loss = float(self._step(next(stream), rate))
        state.steps_done += 1
        if state.steps_done == self.steps_per_epoch:
            state.epochs_done, state.steps_done = state.epochs_done + 1, 0
            self._stream = None
        return loss

    def loud_start(self) -> str | None:
        """Return what looks wrong about the loss of an epoch's first step, None if nothing."""
        head_loaded = self.loaded is not None and "head.weight" in self.loaded.loaded
        return loud_start(float(self._losses[0]), len(self._job.classes), head_loaded)

    def one_class(self) -> str | None:
        """Return what looks wrong about the predictions of the kept epoch, None if nothing."""
        there = int((self._job.validation_set.class_counts() > 0).sum())
        return one_class(self.state.history[self.state.best_epoch - 1], there)

    def epoch_progress(self) -> EpochProgress:
        """Return how far the running epoch is, without waiting for the device."""
        images, state = self._batches.images_per_epoch, self.state
        done = images * state.steps_done // self.steps_per_epoch
        return EpochProgress(state.epochs_done + 1, done, images, self._latest_loss.latest)

    def agree(self, *values: int) -> tuple[int, ...]:
        """Return the first worker's `values` to all of them."""
        if self._worker.share.workers == 1:
            return values
        decision = torch.tensor(values, dtype=torch.int64, device=self._worker.device)
        torch.distributed.broadcast(decision, 0)
        return tuple(decision.tolist())

    def _begin_epoch(self) -> Iterator[BatchPlan]:
        """Begin the running epoch, or open its batches where the last call left off."""
        epoch = self.state.epochs_done
        self._step.begin_epoch(epoch, self._class_counts(epoch=epoch))
        if epoch == self.state.steps_done == 0 and self.loaded and "head.weight" in self.loaded.new:
            self._fit_head()
        self._stream = self._batches.stream(self._worker.share, epoch, self.state.steps_done)
        return self._stream

    def _fit_head(self) -> None:
        """Let a new head above loaded weights start as a linear probe."""
        worker = self._worker
        rows = probe_rows(self._job.training_set.labels, self._recipe.seed)
        network = self._step.network
        # In training, norms normalise by the statistics of these images from the first batch on.
        batches = batches_needed(self.steps_per_epoch, self._recipe.global_batch_size)
        stream = self._batches.stream(worker.share, 0, self.steps_per_epoch - batches)
        self._step.fit_statistics(network, stream)
        features = self._features(chosen=rows)
        labels = torch.from_numpy(features.labels).to(worker.device)
        self._step.fit_head(features.values, labels)
        self._step.begin_epoch(0, self._class_counts(epoch=0))  # back to training

    def _rate(self, step: int) -> float:
        """Return the learning rate of a step (from 0) of the running epoch."""
        recipe, steps = self._recipe, self.steps_per_epoch
        return learning_rate(
            self.state.epochs_done * steps + step,
            steps=recipe.epochs * steps,
            steps_per_epoch=steps,
            schedule=recipe.schedule,
            peak=recipe.optimizer.lr,
        )

    def check_finite(self) -> None:
        """Stop if a loss of the running epoch is not finite, which all workers see alike.

        Raises:
            PipelineError: names the first step.
        """
        losses = self._losses[: self.state.steps_done].cpu()
        bad = torch.nonzero(~torch.isfinite(losses))
        if len(bad):
            step = int(bad[0, 0])
            raise self._diverged(f"training loss is {losses[step]}", f", step {step + 1}")

    def _diverged(self, what: str, step: str) -> PipelineError:
        return PipelineError(
            f"the {what} at epoch {self.state.epochs_done + 1}{step} (of"
            f" {self.steps_per_epoch} steps each); lower optimizer.lr in params.yaml, lengthen"
            " schedule.warmup_epochs or set clip_norm"
        )

    def _end_epoch(self) -> Record:
        """Validate, keep the weights if they are the best, and return the record."""
        state, recipe = self.state, self._recipe
        record = {
            "epoch": state.epochs_done + 1,
            "lr": self._rate(self.steps_per_epoch - 1),
            "train_loss": float(self._losses.double().mean()),
            **self._validate(),
            "images_per_s": self._batches.images_per_epoch / state.seconds,
        }
        if not math.isfinite(record["val_loss"]):
            raise self._diverged(f"validation loss is {record['val_loss']}", "")
        changes = [starts_at(recipe.loss, recipe), starts_at(recipe.sampler, recipe)]
        if state.epochs_done in changes:
            state.forget_best()
        settled = state.epochs_done >= max(*changes, settled_at(recipe), small_until(recipe))
        if state.end_epoch(record, recipe.early_stopping, settled):
            self.best_weights = self._step.weights()
        self._stream = None
        return record

    def _validate(self) -> Record:
        batches = batches_needed(self.steps_per_epoch, self._recipe.global_batch_size)
        share, first = self._worker.share, self.steps_per_epoch - batches
        stream = self._batches.stream(share, self.state.epochs_done, first)
        self._step.fit_statistics(self._step.judged, stream)
        if self._worker.share.workers > 1:  # statistics of norms may be each worker's own
            for buffer in self._step.judged.buffers():
                torch.distributed.broadcast(buffer, 0)
        return self._measure(self._step.judged)

    def save(self, folder: Path) -> None:
        """Write all that `restore` needs, and the best weights as a file of their own.

        Raises:
            PipelineError: a loss is not finite: nothing is written.
        """
        self.check_finite()
        losses = {"losses": self._losses[: self.state.steps_done]}
        tensors = {**self._step.tensors(), "epoch": losses}
        write_checkpoint(folder, tensors, self.best_weights, self.state.values())

    def restore(self, folder: Path) -> None:
        """Go on from what `save` wrote, at any number of workers."""
        tensors = read_tensors(folder)
        self._step.restore(tensors)
        self.state, self.best_weights = read_training_state(folder), read_best(folder)
        self._losses[: self.state.steps_done] = tensors["epoch"]["losses"].to(self._worker.device)
        self._stream = None
