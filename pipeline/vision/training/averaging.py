"""An exponential moving average of the weights (Polyak and Juditsky 1992, as used since 2015)."""

import copy

import torch
from torch import Tensor, nn


class AveragedModel(nn.Module):
    """A copy of a module that each update moves towards it, buffers too.

    torch has one, too, but hands its count over on the device of the weights: to read it there,
    the host waits for the device in every step.

    Attributes:
        module: the copy.
    """

    updates: Tensor

    def __init__(self, source: nn.Module, decay: float) -> None:
        """Average `source`, which must keep its tensors: values change in place.

        The first update copies, the next ones average less: at the n-th, from 0, decay is at most
        (1 + n) / (10 + n), so that the random start is soon forgotten.
        """
        super().__init__()
        self.module = copy.deepcopy(source)
        self._decay = decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))  # on the CPU
        self._floats, self._counters = _tensors(self.module)
        self._source_floats, self._source_counters = _tensors(source)

    @torch.no_grad()
    def update(self) -> None:
        """Move towards what the source is now."""
        count = int(self.updates)
        decay = min(self._decay, (1 + count) / (10 + count)) if count else 0.0
        torch._foreach_lerp_(self._floats, self._source_floats, 1 - decay)
        if self._counters:
            torch._foreach_copy_(self._counters, self._source_counters)
        self.updates += 1


def _tensors(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return what can be averaged, and how many batches each norm has seen."""
    tensors = module.state_dict().values()
    return (
        [tensor for tensor in tensors if tensor.is_floating_point()],
        [tensor for tensor in tensors if not tensor.is_floating_point()],
    )
