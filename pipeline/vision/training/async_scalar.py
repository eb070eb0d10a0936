"""Values of the device that the host wants to see, without waiting for them."""

import math

import torch
from torch import Tensor


class AsyncScalar:
    """Reads a value of the device one exchange late: by then it has long been computed.

    Attributes:
        latest: the last value that arrived; None before the first.
    """

    def __init__(self, device: torch.device) -> None:
        self.latest: float | None = None
        self._cuda = device.type == "cuda"
        self._pending: tuple[Tensor, torch.cuda.Event] | None = None

    def exchange(self, value: Tensor) -> bool:
        """Ask for `value` and take in the one asked for before; return whether it is finite."""
        if not self._cuda:  # nothing runs behind the host's back
            self.latest = float(value)
            return math.isfinite(self.latest)
        if self._pending:
            host, event = self._pending
            event.synchronize()
            self.latest = float(host)
        host = torch.empty((), pin_memory=True)
        host.copy_(value, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._pending = host, event
        return self.latest is None or math.isfinite(self.latest)
