"""A head that is solved instead of trained: logistic regression on the features of all images."""

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.vision.training.batches import BatchPlan
from pipeline.vision.training.probe import fit_probe, penalty_at
from pipeline.vision.training.sources import Features
from pipeline.vision.training.step import TrainStep


class ProbeStep(TrainStep):
    """Takes one step per epoch: L-BFGS to the end, with a penalty that falls from epoch to epoch.

    Each epoch begins from the head of the one before. Validation, which follows each epoch, says
    which penalty was the best. The first worker solves; the others get its head.
    """

    def __call__(self, plan: BatchPlan, rate: float) -> Tensor:  # noqa: ARG002
        """Solve the head of an epoch.

        Args:
            plan: of a batch of all images.
            rate: not used.

        Returns:
            The mean loss without its penalty on the first worker, 0 on the others.
        """
        source, head, worker = self._source, self.network.head, self._worker
        assert isinstance(source, Features)
        weight, bias = head.weight.data, head.bias.data
        mean = torch.zeros((), device=worker.device)
        if worker.share.rank == 0:
            features = source.values.float()
            targets = self._targets[torch.from_numpy(source.labels).to(worker.device)]
            weight, bias = fit_probe(
                features, targets, self._loss, penalty_at(plan.epoch), (weight, bias)
            )
            mean = self._loss(functional.linear(features, weight, bias), targets).mean()
        self._set_head(weight, bias)
        return mean
