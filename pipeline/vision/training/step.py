"""One training step: forward, loss, backward and update."""

from collections.abc import Iterable, Mapping
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.params.choices.training import ClassPrototypes, Training
from pipeline.vision.networks import Classifier
from pipeline.vision.training.averaging import AveragedModel
from pipeline.vision.training.batches import BatchPlan, compose, starts_at
from pipeline.vision.training.checkpoint import plain
from pipeline.vision.training.contrast import Contrast
from pipeline.vision.training.freezing import Freezing
from pipeline.vision.training.losses import RowLosses, build_loss, cross_entropy, target_rows
from pipeline.vision.training.norm_statistics import fit_statistics, training_norms
from pipeline.vision.training.optimizers import (
    build_optimizer,
    restore_state,
    set_learning_rate,
    state_tensors,
    step_function,
)
from pipeline.vision.training.probe import fit_probe
from pipeline.vision.training.replicas import Replica
from pipeline.vision.training.resizing import resize
from pipeline.vision.training.sharpness import Ascent
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
        recipe: Training,
        worker: Worker,
    ) -> None:
        """Prepare the steps of `recipe`.

        Args:
            network: on the device.
            trained: `network`, or its head where `source` holds features.
            source: of the inputs of `trained`.
            recipe: how to train.
            worker: this one.
        """
        self.network, self._trained = network, trained
        self._source, self._recipe, self._worker = source, recipe, worker
        self._freezing = Freezing(network, recipe)
        *groups, head = self._freezing.parameters
        self._contrast = None
        if isinstance(recipe.contrast, ClassPrototypes):
            self._contrast = Contrast(network, recipe.contrast, worker)
            head = head + self._contrast.parameters
        module = self._contrast.module if self._contrast else trained
        self._optimizer = build_optimizer([*groups, head], recipe.optimizer)
        self._update = step_function(self._optimizer)
        rho = recipe.optimizer.sam_rho
        self._ascent = Ascent(module.parameters(), rho) if rho else None
        self._average = AveragedModel(trained, recipe.ema_decay) if recipe.ema_decay else None
        self.judged = self._average.module if self._average else trained
        self._replica, self._clipped = Replica(module, worker.share), module
        counts = np.bincount(source.labels, minlength=network.head.out_features)
        self._targets = target_rows(recipe, counts).to(worker.device)
        self._compose = partial(
            compose, source=source, target_rows=self._targets, device=worker.device
        )
        self._loss: RowLosses = cross_entropy
        self._parts = recipe.accumulate

    def begin_epoch(self, epoch: int, class_counts: NDArray[np.float64]) -> None:
        """Freeze what `epoch` (from 0) freezes, and take its loss.

        `class_counts` are the epoch's targets per class, see `target_counts`.
        """
        self._freezing.apply(epoch)
        self._replica.begin_epoch(self._freezing.first_trained(epoch))
        late = epoch >= starts_at(self._recipe.loss, self._recipe)
        counts = torch.from_numpy(class_counts).to(self._worker.device)
        self._loss = build_loss(self._recipe.loss, counts) if late else cross_entropy
        if self._contrast:
            self._contrast.begin_epoch(epoch, counts)

    def __call__(self, plan: BatchPlan, rate: float) -> Tensor:
        """Take one step.

        Args:
            plan: of this worker's share of the batch.
            rate: the learning rate of the head.

        Returns:
            This worker's part of the global batch's mean loss; the parts add up to it.
        """
        set_learning_rate(self._optimizer, rate)
        inputs, targets = self._compose(plan)
        inputs = resize(inputs, self._recipe, plan.epoch)
        loss = self._backward(plan, inputs, targets)
        if self._ascent:
            self._ascent.climb()
            self._backward(plan, inputs, targets, again=True)
            self._ascent.back()
        if self._recipe.clip_norm:
            nn.utils.clip_grad_norm_(self._clipped.parameters(), self._recipe.clip_norm)
        self._update()
        self._optimizer.zero_grad(set_to_none=True)
        if self._average:
            self._average.update()
        return loss

    def _backward(
        self, plan: BatchPlan, inputs: Tensor, targets: Tensor, *, again: bool = False
    ) -> Tensor:
        """Add up the gradients of the global batch's mean loss; return this worker's part of it."""
        self._seed(plan)
        parts = self._parts
        loss = torch.zeros((), device=self._worker.device)
        # Views of an image stay together.
        by_view = (
            values.reshape(plan.views, -1, *values.shape[1:]) for values in (inputs, targets)
        )
        split = (values.tensor_split(parts, dim=1) for values in by_view)
        for part, (some_inputs, some_targets) in enumerate(zip(*split, strict=True)):
            with self._replica.exchange(last=part == parts - 1):
                rows = self._row_losses(
                    some_inputs.flatten(0, 1), some_targets[0], gather=not again
                )
                mean = rows.sum() / plan.global_size
                # Workers' gradients are averaged; the parts of one mean must be summed.
                (mean * self._worker.share.workers).backward()  # type: ignore[no-untyped-call]
            loss += mean.detach()
        return loss

    def _row_losses(self, inputs: Tensor, targets: Tensor, *, gather: bool) -> Tensor:
        """Return the loss of each image; `inputs` are all of its views."""
        if self._contrast is None:
            with self._worker.autocast():
                logits = self._replica.forward(inputs)
            return self._loss(logits.float(), targets)
        with self._worker.autocast():
            logits, directions = self._replica.forward(inputs, classified=len(targets))
        # Without mixing a target has its largest share in its own class.
        contrast = self._contrast.losses(directions, targets.argmax(dim=1), gather=gather)
        return self._loss(logits.float(), targets) + contrast

    def fit_head(self, features: Tensor, labels: Tensor) -> None:
        """Let the head be the best on some features, by the loss of the running epoch.

        Args:
            features: n x d, on the device.
            labels: n, int64, on the device.
        """
        self._set_head(*fit_probe(features, self._targets[labels], self._loss))

    def _set_head(self, weight: Tensor, bias: Tensor) -> None:
        """Give the head these values, of the first worker."""
        head = self.network.head
        for parameter, values in ((head.weight, weight), (head.bias, bias)):
            if self._worker.share.workers > 1:
                torch.distributed.broadcast(values, 0)
            parameter.data.copy_(values)

    def fit_statistics(self, module: nn.Module, plans: Iterable[BatchPlan]) -> None:
        """Fit the statistics of the norms in `module` to its weights, over some batches.

        Norms that are frozen keep theirs. `module` is `judged`, or what is trained.
        """
        if norms := training_norms(self._trained):
            whole = (self._compose(plan)[0] for plan in plans)
            parts = (part for inputs in whole for part in inputs.tensor_split(self._parts))
            fit_statistics(module, norms, parts, self._worker)

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
            "contrast": self._contrast.tensors() if self._contrast else {},
        }

    def restore(self, tensors: Mapping[str, dict[str, Tensor]]) -> None:
        """Put back what `tensors` returned; empty groups may be missing."""
        self.network.load_state_dict(tensors["network"])
        if self._average:
            self._average.load_state_dict(tensors["average"])
        if self._contrast:
            self._contrast.restore(tensors["contrast"])
        restore_state(self._optimizer, tensors.get("optimizer", {}))
