"""The one training loop: from scratch, transferred or fine-tuned, on one worker or many."""

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.data.shards.shards import ImageSet
from pipeline.errors import PipelineError
from pipeline.params import CrossEntropy, Training
from pipeline.vision.networks import Classifier
from pipeline.vision.training.async_scalar import AsyncScalar
from pipeline.vision.training.augment import build_augment
from pipeline.vision.training.averaging import AveragedModel
from pipeline.vision.training.batches import Batches, BatchPlan, Share, compose, starts_at
from pipeline.vision.training.checkpoint import plain, read_best, read_state, write_checkpoint
from pipeline.vision.training.compute_config import ComputeConfig
from pipeline.vision.training.error_translation import explained
from pipeline.vision.training.features import extract_features, features_suffice
from pipeline.vision.training.freezing import Freezing
from pipeline.vision.training.losses import build_loss, smooth
from pipeline.vision.training.optimizers import (
    build_optimizer,
    restore_state,
    set_learning_rate,
    state_tensors,
)
from pipeline.vision.training.schedule import learning_rate
from pipeline.vision.training.sources import Normalizing, Source, open_pixels
from pipeline.vision.training.training_state import EpochProgress, Progress, Record, read_progress
from pipeline.vision.training.validation import validate

# Input values of a validation batch: enough to be quick, few enough for a processor's caches.
_VALIDATION_VALUES = 2**21
_MOST_VALIDATION_ROWS = 512


@dataclass(frozen=True)
class Inputs:
    """What a training sees.

    Attributes:
        images, validation: packed sets of one kind.
        mean, std: per channel, of pixels in [0, 1].
    """

    images: ImageSet
    validation: ImageSet
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Trainer:
    """Trains a network step by step; can be saved and restored between any two.

    With several workers each process holds one; torch.distributed must be initialised, and
    every one must make the same calls. Gradients are those of the mean loss over the global
    batch, whatever the number of workers.
    """

    def __init__(
        self,
        network: Classifier,
        inputs: Inputs,
        recipe: Training,
        *,
        share: Share,
        device: torch.device,
        compute: ComputeConfig,
    ) -> None:
        self.progress = Progress()
        self.network = network.to(device, memory_format=compute.memory_format)  # type: ignore[call-overload]
        self._recipe, self._share, self._device, self._compute = recipe, share, device, compute
        self._freezing = Freezing(network, recipe)
        self._open(inputs)
        self._optimizer = build_optimizer(self._freezing.parameters, recipe.optimizer)
        decay = recipe.ema_decay
        self._average = AveragedModel(self._trained, decay) if decay else None
        self._judged = self._average.module if self._average else self._trained
        self.best_weights = self._weights()
        self._stream: Iterator[BatchPlan] | None = None
        self._wrapped, self._wrapped_from = self._trained, -1
        self._losses = torch.zeros(self._batches.steps_per_epoch, device=device)
        self._readback = AsyncScalar(device)

    def _open(self, inputs: Inputs) -> None:
        """Set up where inputs and targets come from, and which module is trained on them."""
        recipe, device, info = self._recipe, self._device, inputs.images.info
        height, width, _ = info.shape
        self._classes = len(info.classes)
        augment = build_augment(recipe.augment, info.shape) if recipe.augment else None
        normalizing = Normalizing.of(
            inputs.images, inputs.mean, inputs.std, device, self._compute.memory_format
        )
        self._source: Source = open_pixels(inputs.images, normalizing, augment, device)
        self._validation: Source = open_pixels(inputs.validation, normalizing, None, device)
        self._trained: nn.Module = self.network
        fit = _VALIDATION_VALUES // math.prod(info.shape)
        self._validation_rows = max(1, min(_MOST_VALIDATION_ROWS, fit))
        if features_suffice(recipe):
            self._source = self._extract(self._source)
            self._validation = self._extract(self._validation)
            self._trained = self.network.head
            self._validation_rows = _MOST_VALIDATION_ROWS  # features are small
        self._batches = Batches(self._source, recipe, augment, (height, width))
        one_hot = torch.eye(self._classes, device=device)
        self._targets = smooth(one_hot, recipe.label_smoothing)
        counts = torch.from_numpy(inputs.images.class_counts()).to(device)
        self._late_loss = build_loss(recipe.loss, counts)
        self._early_loss = build_loss(CrossEntropy(name="cross_entropy"), counts)

    def _extract(self, source: Source) -> Source:
        return extract_features(
            self.network.extractor,
            source,
            width=self.network.head.in_features,
            share=self._share,
            batch_size=self._validation_rows,
            device=self._device,
            compute=self._compute,
        )

    @property
    def done(self) -> bool:
        """Whether all epochs are done or patience has run out."""
        progress, recipe = self.progress, self._recipe
        return (
            progress.epochs_done >= recipe.epochs
            or progress.epochs_without_gain >= recipe.early_stopping.patience
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
            images_per_s (of training, over all workers). Before, None.

        Raises:
            PipelineError: a loss is not finite; names the step. Or see `explained`.
        """
        begin = time.perf_counter()
        start = self.progress.steps_done
        stop = min(start + steps, self.steps_per_epoch)
        stream = self._stream or self._begin_epoch()
        with explained():
            for step in range(start, stop):
                self._set_learning_rate(step)
                self._losses[step] = self._step(next(stream), step)
        if self._share.workers > 1:
            torch.distributed.all_reduce(self._losses[start:stop])
        self.progress.steps_done = stop
        if not self._readback.exchange(self._losses[start:stop].mean()):
            self.check_finite()
        if stop == self.steps_per_epoch:
            self.check_finite()  # waits for the device, so that the clock is right
        self.progress.seconds += time.perf_counter() - begin
        return self._end_epoch() if stop == self.steps_per_epoch else None

    def step_at(self, rate: float) -> float:
        """Take one step at a learning rate of `rate` and return its loss, finite or not.

        For the learning-rate range test; epochs follow each other without validation.
        """
        progress = self.progress
        stream = self._stream or self._begin_epoch()
        set_learning_rate(self._optimizer, rate)
        loss = float(self._step(next(stream), progress.steps_done))
        progress.steps_done += 1
        if progress.steps_done == self.steps_per_epoch:
            progress.epochs_done, progress.steps_done = progress.epochs_done + 1, 0
            self._stream = None
        return loss

    def epoch_progress(self) -> EpochProgress:
        """Return how far the running epoch is, without waiting for the device."""
        images, progress = len(self._source.labels), self.progress
        done = images * progress.steps_done // self.steps_per_epoch
        return EpochProgress(progress.epochs_done + 1, done, images, self._readback.latest)

    def agree(self, *values: int) -> tuple[int, ...]:
        """Return the first worker's `values` to all of them."""
        if self._share.workers == 1:
            return values
        decision = torch.tensor(values, dtype=torch.int64, device=self._device)
        torch.distributed.broadcast(decision, 0)
        return tuple(decision.tolist())

    def _begin_epoch(self) -> Iterator[BatchPlan]:
        """Freeze what this epoch freezes, and open its batches where the last call left off."""
        epoch = self.progress.epochs_done
        self._freezing.apply(epoch)
        first = self._freezing.first_trained(epoch)
        if self._share.workers > 1 and first != self._wrapped_from:
            # It must know which gradients to wait for. Statistics of norms are either equal on
            # all workers anyway or each worker's own.
            self._wrapped = nn.parallel.DistributedDataParallel(
                self._trained, forward_sync_buffers=False
            )
            self._wrapped_from = first
        late = epoch >= starts_at(self._recipe.loss, self._recipe)
        self._loss = self._late_loss if late else self._early_loss
        self._stream = self._batches.stream(self._share, epoch, self.progress.steps_done)
        return self._stream

    def _step(self, draw: BatchPlan, step: int) -> Tensor:
        """Take one step; return this worker's part of the global batch's mean loss."""
        self._seed(step)
        inputs, targets = compose(draw, self._source, self._targets, self._device)
        parts = self._recipe.accumulate
        loss = torch.zeros((), device=self._device)
        for part, (some_inputs, some_targets) in enumerate(
            zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True)
        ):
            with self._waiting(last=part == parts - 1):
                with self._compute.autocast(self._device):
                    logits = self._wrapped(some_inputs)
                mean = self._loss(logits.float(), some_targets).sum() / draw.global_size
                # Workers' gradients are averaged; the parts of one mean must be summed.
                (mean * self._share.workers).backward()  # type: ignore[no-untyped-call]
            loss += mean.detach()
        if self._recipe.clip_norm:
            nn.utils.clip_grad_norm_(self._trained.parameters(), self._recipe.clip_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        if self._average:
            self._average.update()
        return loss

    def _waiting(self, last: bool) -> Any:
        """Exchange gradients between workers only after the last part of a batch."""
        if isinstance(self._wrapped, nn.parallel.DistributedDataParallel) and not last:
            return self._wrapped.no_sync()
        return nullcontext()

    def _seed(self, step: int) -> None:
        """Seed what layers draw (dropout): a resumed step draws what it would have drawn."""
        key = (self._recipe.seed, self.progress.epochs_done, step, self._share.rank)
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        # torch.manual_seed does the same for all devices, and formats a stack trace each time.
        if self._device.type == "cuda":
            torch.cuda.default_generators[self._device.index or 0].manual_seed(seed)
        torch.default_generator.manual_seed(seed)

    def _set_learning_rate(self, step: int) -> None:
        recipe, steps = self._recipe, self.steps_per_epoch
        rate = learning_rate(
            self.progress.epochs_done * steps + step,
            steps=recipe.epochs * steps,
            steps_per_epoch=steps,
            schedule=recipe.schedule,
            peak=recipe.optimizer.lr,
        )
        set_learning_rate(self._optimizer, rate)
        self._rate = rate

    def check_finite(self) -> None:
        """Stop if a loss of the running epoch is not finite, which all workers see alike.

        Raises:
            PipelineError: names the first step.
        """
        losses = self._losses[: self.progress.steps_done].cpu()
        bad = torch.nonzero(~torch.isfinite(losses))
        if len(bad):
            step = int(bad[0, 0])
            raise self._diverged(f"training loss is {losses[step]}", f", step {step + 1}")

    def _diverged(self, what: str, step: str) -> PipelineError:
        return PipelineError(
            f"the {what} at epoch {self.progress.epochs_done + 1}{step} (of"
            f" {self.steps_per_epoch} steps each); lower optimizer.lr in params.yaml, lengthen"
            " schedule.warmup_epochs or set clip_norm"
        )

    def _end_epoch(self) -> Record:
        """Validate, keep the weights if they are the best, and return the record."""
        progress, recipe = self.progress, self._recipe
        record = {
            "epoch": progress.epochs_done + 1,
            "lr": self._rate,
            "train_loss": float(self._losses.double().mean()),
            **self._validate(),
            "images_per_s": len(self._source.labels) / progress.seconds,
        }
        if not math.isfinite(record["val_loss"]):
            raise self._diverged(f"validation loss is {record['val_loss']}", "")
        changes = [starts_at(recipe.loss, recipe), starts_at(recipe.sampler, recipe)]
        if progress.epochs_done in changes:
            progress.begin_anew()
        settled = progress.epochs_done >= max(*changes, self._freezing.settled_at)
        if progress.end_epoch(record, recipe.early_stopping, settled):
            self.best_weights = self._weights()
        self._stream = None
        return record

    def _validate(self) -> Record:
        if self._share.workers > 1:  # statistics of norms may be each worker's own
            for buffer in self._judged.buffers():
                torch.distributed.broadcast(buffer, 0)
        return validate(
            self._judged,
            self._validation,
            classes=self._classes,
            share=self._share,
            batch_size=self._validation_rows,
            device=self._device,
            compute=self._compute,
        )

    def _weights(self) -> dict[str, Tensor]:
        """Copy the weights that are judged and kept: averaged, if an average is asked for."""
        prefix = "" if self._trained is self.network else "head."
        judged = {prefix + name: tensor for name, tensor in self._judged.state_dict().items()}
        return {name: plain(value) for name, value in (self.network.state_dict() | judged).items()}

    def save(self, folder: Path) -> None:
        """Write all that `restore` needs, and the best weights as a file of their own.

        Raises:
            PipelineError: a loss is not finite: nothing is written.
        """
        self.check_finite()
        state = {
            "network": self.network.state_dict(),
            "optimizer": state_tensors(self._optimizer),
            "average": self._average.state_dict() if self._average else {},
            "epoch": {"losses": self._losses[: self.progress.steps_done]},
        }
        write_checkpoint(folder, state, self.best_weights, self.progress.values())

    def restore(self, folder: Path) -> None:
        """Go on from what `save` wrote, at any number of workers."""
        state = read_state(folder)
        self.network.load_state_dict(state["network"])
        if self._average:
            self._average.load_state_dict(state["average"])
        restore_state(self._optimizer, state.get("optimizer", {}))
        self.progress, self.best_weights = read_progress(folder), read_best(folder)
        self._losses[: self.progress.steps_done] = state["epoch"]["losses"].to(self._device)
        self._stream = None
