"""Muon (Jordan et al. 2024): steps of filters and dense layers are made orthogonal.

All directions of such a step are as long as each other, the rare ones too. torch.optim.Muon takes
matrices alone; here a filter counts as one, with a row for each output.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# Of the quintic that pushes singular values towards 1, and how often it is applied (Jordan et al.).
_QUINTIC = (3.4445, -4.7750, 2.0315)
_TIMES = 5
# With it a step has the root mean square of one of AdamW (Liu et al. 2025, "Muon is scalable").
_LIKE_ADAMW = 0.2
_BETA2, _EPS = 0.999, 1e-8


class Muon(torch.optim.Optimizer):
    """Takes orthogonal steps in groups that ask for it, and those of AdamW in the others.

    Groups have the keys lr, momentum (Nesterov's; the first beta of AdamW), weight_decay
    (decoupled) and orthogonal.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, momentum: float) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "orthogonal": False}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Move all parameters that have a gradient."""
        for group in self.param_groups:
            move = self._orthogonal if group["orthogonal"] else self._adamw
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    move(parameter, group)

    def _orthogonal(self, parameter: Tensor, group: dict[str, Any]) -> None:
        momentum, grad = group["momentum"], parameter.grad
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        mean = state["momentum_buffer"].lerp_(grad, 1 - momentum)
        matrix = grad.lerp(mean, momentum).flatten(1)  # type: ignore[union-attr]
        scale = _LIKE_ADAMW * max(matrix.shape) ** 0.5
        update = orthogonalise(matrix).view(parameter.shape)
        parameter.add_(update, alpha=-group["lr"] * scale)

    def _adamw(self, parameter: Tensor, group: dict[str, Any]) -> None:
        beta, grad = group["momentum"], parameter.grad
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        steps = int(state["step"])
        mean = state["exp_avg"].lerp_(grad, 1 - beta)
        square = state["exp_avg_sq"].mul_(_BETA2).addcmul_(grad, grad, value=1 - _BETA2)
        scale = (square / (1 - _BETA2**steps)).sqrt_().add_(_EPS)
        parameter.addcdiv_(mean, scale, value=-group["lr"] / (1 - beta**steps))


def orthogonalise(matrix: Tensor) -> Tensor:
    """Return a matrix with about the same singular vectors, all singular values near 1.

    By Newton and Schulz: values end between some 0.7 and 1.2, which is as good for a step.
    """
    a, b, c = _QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(_TIMES):
        product = x @ x.T
        x = a * x + (b * product + c * product @ product) @ x
    return x.T if tall else x
