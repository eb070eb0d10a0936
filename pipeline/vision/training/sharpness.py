"""Sharpness-aware minimisation: the gradient of where the loss is worst nearby.

Foret, Kleiner, Mobahi and Neyshabur 2021, algorithm 1: with g the gradient of the loss at the
weights w, the step is taken from w with the gradient at w + rho * g / |g|. The norm is that of all
weights together, and g that of the whole global batch, so that the number of workers does not
matter.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_TINY = 1e-12  # of a gradient of zeros


class Ascent:
    """Moves weights uphill and puts them back, to the bit."""

    def __init__(self, parameters: Iterable[nn.Parameter], rho: float) -> None:
        """Prepare to move `parameters` by the length `rho`; those without a gradient stay."""
        self._parameters, self._rho = list(parameters), rho
        self._before: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def climb(self) -> None:
        """Move along the gradients, which are dropped."""
        moved: list[Tensor] = [one for one in self._parameters if one.grad is not None]
        gradients = [one.grad for one in moved if one.grad is not None]
        self._before = [(one, one.clone()) for one in moved]
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        torch._foreach_mul_(gradients, self._rho / (norm + _TINY))
        torch._foreach_add_(moved, gradients)
        for one in moved:
            one.grad = None

    @torch.no_grad()
    def back(self) -> None:
        """Put the weights back to where they were; gradients stay."""
        for parameter, values in self._before:
            parameter.copy_(values)
        self._before = []
