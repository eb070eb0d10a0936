"""The one training loop: from scratch, transferred or fine-tuned, on one worker or many."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from pipeline.data.shards import ImageSet
from pipeline.errors import PipelineError
from pipeline.params import Training
from pipeline.vision.networks import Classifier
from pipeline.vision.predict import per_channel
from pipeline.vision.training.batches import (
    Batch,
    Share,
    count_steps,
    training_batches,
    validation_batches,
)
from pipeline.vision.training.schedule import learning_rate

VALIDATION_BATCH = 512
BEST_FILE = "best.safetensors"
_NETWORK_FILE = "network.safetensors"
_OPTIMIZER_FILE = "optimizer.safetensors"
_PROGRESS_FILE = "progress.json"

Record = dict[str, float]


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        epochs_done: whole epochs.
        best_epoch: the epoch (from 1) with the lowest validation loss, 0 before the first.
        best_loss: its validation loss.
        loss_to_beat: the loss at the last gain of more than `min_delta`, by which the next is
            measured; many small gains add up to one.
        epochs_without_gain: since then.
        history: one record per epoch.
    """

    epochs_done: int = 0
    best_epoch: int = 0
    best_loss: float = float("inf")
    loss_to_beat: float = float("inf")
    epochs_without_gain: int = 0
    history: list[Record] = field(default_factory=list)


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
    """Trains a network epoch by epoch; can be saved and restored between any two.

    With several workers each process holds one; torch.distributed must be initialised, and
    every one must make the same calls. Gradients are those of the mean loss over the global
    batch, whatever the number of workers.
    """

    def __init__(
        self,
        network: Classifier,
        inputs: Inputs,
        recipe: Training,
        share: Share,
        device: torch.device,
    ) -> None:
        self.progress = Progress()
        self.network = network.to(device)
        self.best_weights = _copy_weights(network)
        self._inputs, self._recipe, self._share, self._device = inputs, recipe, share, device
        self._mean, self._std = per_channel(inputs.mean, device), per_channel(inputs.std, device)
        if recipe.trainable == "head":
            network.extractor.requires_grad_(False)
        self._wrapped: nn.Module = network
        if share.workers > 1:
            self._wrapped = nn.parallel.DistributedDataParallel(network)
        self._optimizer = _build_optimizer(network, recipe)
        self._steps_per_epoch = count_steps(len(inputs.images), recipe.global_batch_size)

    @property
    def done(self) -> bool:
        """Whether all epochs are done or patience has run out."""
        progress, recipe = self.progress, self._recipe
        return (
            progress.epochs_done >= recipe.epochs
            or progress.epochs_without_gain >= recipe.early_stopping.patience
        )

    def run_epoch(self) -> Record:
        """Train one epoch, validate, and return its record.

        Returns:
            epoch (from 1), lr (of its last step), train_loss, val_loss (nats), val_accuracy,
            val_balanced_accuracy, images_per_s (of training, over all workers).

        Raises:
            PipelineError: a loss is not finite; names the step.
        """
        start = time.perf_counter()
        losses = self._train()
        seconds = time.perf_counter() - start
        record = {
            "epoch": self.progress.epochs_done + 1,
            "lr": self._optimizer.param_groups[0]["lr"],
            "train_loss": float(losses.mean()),
            **self._validate(),
            "images_per_s": len(self._inputs.images) / seconds,
        }
        self._take_note(record)
        return record

    def _train(self) -> Tensor:
        """Train one epoch and return the mean loss of each global batch."""
        epoch, recipe = self.progress.epochs_done, self._recipe
        # Dropout draws from torch's generator: a resumed epoch draws what it would have drawn.
        seed = np.random.SeedSequence((recipe.seed, epoch, self._share.rank))
        torch.manual_seed(int(seed.generate_state(1)[0]))
        self._wrapped.train()
        if recipe.trainable == "head":
            self.network.extractor.eval()  # frozen batch norms keep their statistics
        losses = []
        for step, batch in enumerate(
            training_batches(
                self._inputs.images,
                share=self._share,
                global_batch_size=recipe.global_batch_size,
                seed=recipe.seed,
                epoch=epoch,
                mixup_alpha=recipe.mixup_alpha,
            )
        ):
            self._set_learning_rate(epoch * self._steps_per_epoch + step)
            losses.append(self._step(batch))
        # One look at the losses per epoch: each look would wait for the device.
        all_losses = self._sum_over_workers(torch.stack(losses)).cpu()
        bad = torch.nonzero(~torch.isfinite(all_losses))
        if len(bad):
            step = int(bad[0, 0])
            raise self._diverged(f"training loss is {all_losses[step]}", f", step {step + 1}")
        return all_losses

    def _step(self, batch: Batch) -> Tensor:
        """Take one step; return this worker's part of the global batch's mean loss."""
        images = (batch.images.to(self._device) - self._mean) / self._std
        smoothing, targets = self._recipe.label_smoothing, batch.targets.to(self._device)
        targets = targets * (1 - smoothing) + smoothing / targets.shape[1]
        log_posterior = functional.log_softmax(self._wrapped(images), dim=1)
        row_losses = -(targets * log_posterior).sum(dim=1) * batch.weights.to(self._device)
        loss = row_losses.sum() / batch.global_size
        self._optimizer.zero_grad(set_to_none=True)
        # Workers' gradients are averaged; the parts of one mean must be summed.
        (loss * self._share.workers).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        return loss.detach()

    def _diverged(self, what: str, step: str) -> PipelineError:
        return PipelineError(
            f"the {what} at epoch {self.progress.epochs_done + 1}{step} (of"
            f" {self._steps_per_epoch} steps each); lower optimizer.lr in params.yaml or lengthen"
            " schedule.warmup_epochs"
        )

    def _set_learning_rate(self, step: int) -> None:
        recipe = self._recipe
        rate = learning_rate(
            step,
            steps=recipe.epochs * self._steps_per_epoch,
            warmup_steps=round(recipe.schedule.warmup_epochs * self._steps_per_epoch),
            peak=recipe.optimizer.lr,
            name=recipe.schedule.name,
        )
        for group in self._optimizer.param_groups:
            group["lr"] = rate

    @torch.inference_mode()
    def _validate(self) -> Record:
        """Count over all workers and divide once, so that every row counts exactly once."""
        if self._share.workers > 1:
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, 0)
        self.network.eval()
        rows, classes = self._inputs.validation, len(self._inputs.validation.info.classes)
        # Per class: rows, hits; then the sum of losses.
        counts = torch.zeros(2 * classes + 1, dtype=torch.float64, device=self._device)
        for images, labels in validation_batches(rows, share=self._share, size=VALIDATION_BATCH):
            truth = labels.to(self._device)
            logits = self.network((images.to(self._device) - self._mean) / self._std)
            hits = truth[logits.argmax(dim=1) == truth]
            counts[:classes] += torch.bincount(truth, minlength=classes)
            counts[classes:-1] += torch.bincount(hits, minlength=classes)
            counts[-1] += functional.cross_entropy(logits.double(), truth, reduction="sum")
        counts = self._sum_over_workers(counts).cpu()
        support, correct, loss = counts[:classes], counts[classes:-1], counts[-1]
        assert int(support.sum()) == len(rows), "a validation row was lost or counted twice"
        if not torch.isfinite(loss):
            raise self._diverged(f"validation loss is {loss}", "")
        present = support > 0
        return {
            "val_loss": float(loss / support.sum()),
            "val_accuracy": float(correct.sum() / support.sum()),
            "val_balanced_accuracy": float((correct[present] / support[present]).mean()),
        }

    def _take_note(self, record: Record) -> None:
        """Update progress and, if this epoch is the best yet, the best weights."""
        progress, loss = self.progress, record["val_loss"]
        progress.epochs_done += 1
        progress.history.append(record)
        progress.epochs_without_gain += 1
        if progress.loss_to_beat - loss > self._recipe.early_stopping.min_delta:
            progress.loss_to_beat, progress.epochs_without_gain = loss, 0
        if loss < progress.best_loss:
            progress.best_loss, progress.best_epoch = loss, progress.epochs_done
            self.best_weights = _copy_weights(self.network)

    def agree(self, mine: bool) -> bool:
        """Return the first worker's `mine` to all of them."""
        decision = torch.tensor(int(mine), device=self._device)
        if self._share.workers > 1:
            torch.distributed.broadcast(decision, 0)
        return bool(decision)

    def _sum_over_workers(self, values: Tensor) -> Tensor:
        if self._share.workers > 1:
            torch.distributed.all_reduce(values)
        return values

    def save(self, folder: Path) -> None:
        """Write all that `restore` needs, and the best weights as `best.safetensors`."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(_copy_weights(self.network), folder / _NETWORK_FILE)
        save_file(self.best_weights, folder / BEST_FILE)
        state = self._optimizer.state_dict()["state"]
        tensors = {
            f"{i}/{key}": value for i, entry in state.items() for key, value in entry.items()
        }
        save_file(tensors, folder / _OPTIMIZER_FILE)
        (folder / _PROGRESS_FILE).write_text(json.dumps(asdict(self.progress)))

    def restore(self, folder: Path) -> None:
        """Go on from what `save` wrote."""
        self.network.load_state_dict(load_file(folder / _NETWORK_FILE))
        self.best_weights = load_file(folder / BEST_FILE)
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in load_file(folder / _OPTIMIZER_FILE).items():
            index, _, key = name.partition("/")
            state.setdefault(int(index), {})[key] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.progress = read_progress(folder)


def read_progress(folder: Path) -> Progress:
    """Read how far the training that saved `folder` was."""
    return Progress(**json.loads((folder / _PROGRESS_FILE).read_text()))


def _copy_weights(network: nn.Module) -> dict[str, Tensor]:
    """Copy the weights to the CPU, apart from the ones that go on training."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def _build_optimizer(network: nn.Module, recipe: Training) -> torch.optim.Optimizer:
    """Build the optimiser; biases and norms (one-dimensional) decay no weights."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    settings = recipe.optimizer
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    build: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "sgd": lambda: torch.optim.SGD(
            groups, settings.lr, settings.momentum, nesterov=settings.momentum > 0
        ),
        "adamw": lambda: torch.optim.AdamW(groups, settings.lr, betas=(settings.momentum, 0.999)),
    }
    return build[settings.name]()
