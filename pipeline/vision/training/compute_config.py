"""How the arithmetic of a training is done: precision, threads and memory format."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch


@dataclass(frozen=True)
class ComputeConfig:
    """One way to do the same arithmetic.

    Attributes:
        precision: of activations and products; weights, losses and updates stay fp32.
        threads: of torch in this process.
        channels_last: whether images lie in memory pixel by pixel instead of plane by plane.
    """

    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int = 1
    channels_last: bool = False

    def __str__(self) -> str:
        plural = "" if self.threads == 1 else "s"
        order = "channels last" if self.channels_last else "channels first"
        return f"{self.precision}, {self.threads} thread{plural}, {order}"

    @property
    def memory_format(self) -> torch.memory_format:
        """The memory format of images and convolutions."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """Within it, torch computes in this precision."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(device.type, torch.bfloat16)
