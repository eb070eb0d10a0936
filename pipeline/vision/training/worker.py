"""One of the processes that train together."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.training.batches import Share


@dataclass(frozen=True)
class Worker:
    """What part of each batch a process takes, where and how it computes.

    Attributes:
        share: of each global batch.
        device: that computes.
        arithmetic: precision and memory order.
    """

    share: Share
    device: torch.device
    arithmetic: Arithmetic

    def autocast(self) -> AbstractContextManager[Any]:
        """Within it, torch computes in the worker's precision."""
        return self.arithmetic.autocast(self.device)
