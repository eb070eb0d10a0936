"""How a network computes, as far as its results depend on it. Without torch until it is used."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16"]
MemoryFormat = Literal["contiguous_format", "channels_last"]


@dataclass(frozen=True)
class Arithmetic:
    """Precision and memory order: both decide how results are rounded.

    Attributes:
        precision: of activations and products; weights, losses and updates stay fp32.
        memory_format: of images and convolutions, by torch's names: channels_last keeps the
            channels of a pixel together, contiguous_format the pixels of a channel.
    """

    precision: Precision = "fp32"
    memory_format: MemoryFormat = "contiguous_format"

    def __str__(self) -> str:
        order = "channels last" if self.memory_format == "channels_last" else "channels first"
        return f"{self.precision}, {order}"

    @classmethod
    def of(cls, values: Any) -> "Arithmetic":
        """Read it from JSON values: {"precision": ..., "memory_format": ...}.

        Raises:
            ValueError: a key is missing or unknown, or has another value; names it.
        """
        choices = {"precision": get_args(Precision), "memory_format": get_args(MemoryFormat)}
        if not isinstance(values, dict) or set(values) != set(choices):
            raise ValueError(f"got {values}, need the keys {' and '.join(choices)}")
        for key, valid in choices.items():
            if values[key] not in valid:
                raise ValueError(f"{key}: got {values[key]}, need {' or '.join(valid)}")
        return cls(values["precision"], values["memory_format"])

    @property
    def torch_format(self) -> "torch.memory_format":
        """The memory format as torch has it."""
        import torch

        format_: torch.memory_format = getattr(torch, self.memory_format)
        return format_

    def autocast(self, device: "torch.device") -> AbstractContextManager[Any]:
        """Within it, torch computes in this precision on `device`."""
        if self.precision == "fp32":
            return nullcontext()
        import torch

        return torch.autocast(device.type, torch.bfloat16)
