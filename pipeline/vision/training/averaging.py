"""An exponential moving average of the weights (Polyak and Juditsky 1992, as used since 2015)."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

Tensors = tuple[Tensor, ...] | list[Tensor]


def averaged_model(module: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of `module` that `update_parameters` moves towards it, buffers too.

    The first updates average less: decay is at most (1 + n) / (10 + n) at the n-th, so that the
    random start is soon forgotten.
    """

    @torch.no_grad()
    def towards(averaged: Tensors, current: Tensors, count: Tensor | int) -> None:
        share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))  # counted on the CPU
        if torch.is_floating_point(averaged[0]):
            torch._foreach_lerp_(averaged, current, share)
        else:  # how many batches a norm has seen
            torch._foreach_copy_(averaged, current)

    return AveragedModel(module, multi_avg_fn=towards, use_buffers=True)
