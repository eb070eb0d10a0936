"""How a training computes: what is part of its result, and what is a matter of the machine."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pipeline.vision.bundle.arithmetic import Arithmetic

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ComputeConfig:
    """One way to compute the same training.

    Attributes:
        arithmetic: part of the result.
        threads: of torch in this process; a matter of the machine.
    """

    arithmetic: Arithmetic = field(default_factory=Arithmetic)
    threads: int = 1

    def __str__(self) -> str:
        plural = "" if self.threads == 1 else "s"
        return f"{self.arithmetic}, {self.threads} thread{plural}"


def supported(arithmetic: Arithmetic, device: "torch.device") -> str | None:
    """Return why `arithmetic` is impossible on `device`; None where it is possible.

    Where there are no instructions for bf16, torch emulates it: right, but many times slower.
    """
    if arithmetic.precision == "fp32":
        return None
    import torch

    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return None
        name = torch.cuda.get_device_name(device)
        return f"{name} has no bf16 arithmetic (compute capability 8.0 or higher has)"
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    return "this processor has no bf16 arithmetic (AVX-512 has)"
