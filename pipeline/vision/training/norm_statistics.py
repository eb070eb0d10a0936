"""Running statistics of batch norms that fit the weights beside them.

While it trains, a norm follows the statistics of its batches by a moving average, which lags behind
the weights: with the momentum of MobileNetV3 (0.01), by hundreds of steps. What is judged and kept
gets the plain mean over some batches instead (Ioffe and Szegedy 2015, algorithm 2; Wu and Johnson
2021, "precise batch norm").
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.vision.training.worker import Worker

# Images over which statistics are taken: enough for a mean, and at most an eighth of an epoch.
_IMAGES = 1024
_LARGEST_SHARE = 0.125
_FEWEST_BATCHES = 4


def training_norms(module: nn.Module) -> list[str]:
    """Return the names of the batch norms that are trained now; those that are frozen rest."""
    return [
        name
        for name, norm in module.named_modules()
        if isinstance(norm, _BatchNorm) and norm.training and norm.track_running_stats
    ]


def batches_needed(steps_per_epoch: int, batch_size: int) -> int:
    """Return how many of an epoch's batches are enough for statistics."""
    enough = min(-(-_IMAGES // batch_size), int(steps_per_epoch * _LARGEST_SHARE))
    return min(max(enough, _FEWEST_BATCHES), steps_per_epoch)


@torch.no_grad()
def fit_statistics(
    module: nn.Module, norms: Iterable[str], batches: Iterable[Tensor], worker: Worker
) -> None:
    """Replace the running statistics of norms by their mean over batches.

    torch.optim.swa_utils.update_bn would train all of the module meanwhile: dropout would drop, and
    frozen norms would change.

    Args:
        module: with the weights to fit; changed in place, left in evaluation mode.
        norms: names of the norms in it.
        batches: this worker's shares of global batches; synchronised norms see all of them.
        worker: this one.
    """
    fitted = [module.get_submodule(name) for name in norms]
    module.eval()
    before = []
    for norm in fitted:
        assert isinstance(norm, _BatchNorm)
        count = norm.num_batches_tracked
        assert count is not None
        before.append((norm, norm.momentum, count, count.clone()))
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    for inputs in batches:
        with worker.autocast():
            module(inputs)
    for norm, momentum, count, seen in before:
        norm.momentum = momentum
        count.copy_(seen)
        norm.eval()
