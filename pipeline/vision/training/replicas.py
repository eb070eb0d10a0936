"""The module that is trained as one of several replicas, one on each worker."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn

from pipeline.vision.training.batches import Share


class Replica:
    """Averages gradients over all workers in the backward pass; with one worker, the module."""

    def __init__(self, module: nn.Module, share: Share) -> None:
        """Share the gradients of `module`; torch.distributed must be initialised by then."""
        self.forward, self._module, self._workers = module, module, share.workers
        self._first_trained = -1

    def begin_epoch(self, first_trained: int) -> None:
        """Exchange the gradients of what is trained now.

        Args:
            first_trained: of the depth groups, see `Freezing`.
        """
        if self._workers > 1 and first_trained != self._first_trained:
            # It must know which gradients to wait for. Statistics of norms are either equal on
            # all workers anyway or each worker's own.
            self.forward = nn.parallel.DistributedDataParallel(
                self._module, forward_sync_buffers=False
            )
            self._first_trained = first_trained

    def exchange(self, last: bool) -> AbstractContextManager[Any]:
        """Within it, gradients are exchanged only for the last part of a batch."""
        if isinstance(self.forward, nn.parallel.DistributedDataParallel) and not last:
            return self.forward.no_sync()
        return nullcontext()
