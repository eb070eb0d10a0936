"""One training step: forward, loss, backward and update."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.params.choices.training import CrossEntropy, Training
from pipeline.vision.networks import Classifier
from pipeline.vision.training.averaging import AveragedModel
from pipeline.vision.training.batches import BatchPlan, compose, starts_at
from pipeline.vision.training.checkpoint import plain
from pipeline.vision.training.freezing import Freezing
from pipeline.vision.training.losses import build_loss, smooth
from pipeline.vision.training.optimizers import (
    build_optimizer,
    restore_state,
    set_learning_rate,
    state_tensors,
    step_function,
)
from pipeline.vision.training.replicas import Replica
from pipeline.vision.training.sources import Source
from pipeline.vision.training.worker import Worker


class TrainStep:
    """Takes the steps of one worker, and holds all tensors that they change.

    Gradients are those of the mean loss over the global batch, whatever the number of workers.

    Attributes:
        network: the whole network, on the device.
        judged: the module to validate: what is trained, or its average if one is asked for.
    """

    def __init__(
        self,
        network: Classifier,
        trained: nn.Module,
        *,
        source: Source,
        class_counts: Tensor,
        recipe: Training,
        worker: Worker,
    ) -> None:
        """Prepare the steps of `recipe`.

        Args:
            network: on the device.
            trained: `network`, or its head where `source` holds features.
            source: of the inputs of `trained`.
            class_counts: training images of each class, on the device.
            recipe: how to train.
            worker: this one.
        """
        self.network, self._trained = network, trained
        self._recipe, self._worker = recipe, worker
        self._freezing = Freezing(network, recipe)
        self._optimizer = build_optimizer(self._freezing.parameters, recipe.optimizer)
        self._update = step_function(self._optimizer)
        self._average = AveragedModel(trained, recipe.ema_decay) if recipe.ema_decay else None
        self.judged = self._average.module if self._average else trained
        self._replica = Replica(trained, worker.share)
        targets = smooth(torch.eye(len(class_counts), device=worker.device), recipe.label_smoothing)
        self._compose = partial(compose, source=source, target_rows=targets, device=worker.device)
        self._late_loss = build_loss(recipe.loss, class_counts)
        self._early_loss = build_loss(CrossEntropy(name="cross_entropy"), class_counts)
        self._loss = self._early_loss

    def begin_epoch(self, epoch: int) -> None:
        """Freeze what `epoch` (from 0) freezes, and take its loss."""
        self._freezing.apply(epoch)
        self._replica.begin_epoch(self._freezing.first_trained(epoch))
        late = epoch >= starts_at(self._recipe.loss, self._recipe)
        self._loss = self._late_loss if late else self._early_loss

    def __call__(self, plan: BatchPlan, rate: float) -> Tensor:
        """Take one step.

        Args:
            plan: of this worker's share of the batch.
            rate: the learning rate of the head.

        Returns:
            This worker's part of the global batch's mean loss; the parts add up to it.
        """
        set_learning_rate(self._optimizer, rate)
        self._seed(plan)
        inputs, targets = self._compose(plan)
        parts = self._recipe.accumulate
        loss = torch.zeros((), device=self._worker.device)
        for part, (some_inputs, some_targets) in enumerate(
            zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True)
        ):
            with self._replica.exchange(last=part == parts - 1):
                with self._worker.autocast():
                    logits = self._replica.forward(some_inputs)
                mean = self._loss(logits.float(), some_targets).sum() / plan.global_size
                # Workers' gradients are averaged; the parts of one mean must be summed.
                (mean * self._worker.share.workers).backward()  # type: ignore[no-untyped-call]
            loss += mean.detach()
        if self._recipe.clip_norm:
            nn.utils.clip_grad_norm_(self._trained.parameters(), self._recipe.clip_norm)
        self._update()
        self._optimizer.zero_grad(set_to_none=True)
        if self._average:
            self._average.update()
        return loss

    def _seed(self, plan: BatchPlan) -> None:
        """Seed what layers draw (dropout): a resumed step draws what it would have drawn."""
        key = (self._recipe.seed, plan.epoch, plan.step, self._worker.share.rank)
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        # torch.manual_seed does the same for all devices, and formats a stack trace each time.
        device = self._worker.device
        if device.type == "cuda":
            torch.cuda.default_generators[device.index or 0].manual_seed(seed)
        torch.default_generator.manual_seed(seed)

    def weights(self) -> dict[str, Tensor]:
        """Copy the weights that are judged and kept: averaged, if an average is asked for."""
        prefix = "" if self._trained is self.network else "head."
        judged = {prefix + name: tensor for name, tensor in self.judged.state_dict().items()}
        return {name: plain(value) for name, value in (self.network.state_dict() | judged).items()}

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return all that steps change, in named groups."""
        return {
            "network": self.network.state_dict(),
            "optimizer": state_tensors(self._optimizer),
            "average": self._average.state_dict() if self._average else {},
        }

    def restore(self, tensors: Mapping[str, dict[str, Tensor]]) -> None:
        """Put back what `tensors` returned; empty groups may be missing."""
        self.network.load_state_dict(tensors["network"])
        if self._average:
            self._average.load_state_dict(tensors["average"])
        restore_state(self._optimizer, tensors.get("optimizer", {}))
