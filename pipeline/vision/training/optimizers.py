"""Optimisers, with learning rates that fall from the head towards the input."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.params.choices.training import Optimizer
from pipeline.vision.training.muon import Muon

# One kernel per step instead of several per operation; torch has others for other devices.
_FUSED = frozenset({"cpu", "cuda"})
# See torch._compile._disable_dynamo.
_KEPT_AS = "__dynamo_disable"


def build_optimizer(
    groups_by_depth: Sequence[Sequence[nn.Parameter]], settings: Optimizer
) -> torch.optim.Optimizer:
    """Build the optimiser of parameters that are on their device already.

    SGD takes Nesterov's momentum (none at a momentum of 0); AdamW takes `momentum` as its first
    beta; Muon makes the steps of all filters and dense layers below the head orthogonal. Biases and
    norms (one-dimensional) decay no weights. Parameters may be frozen: without a gradient nothing
    moves them, weight decay included, until they are unfrozen.

    Args:
        groups_by_depth: from the input to the head. One step further below the head multiplies
            the rate by `layer_decay` (Howard and Ruder 2018 call it discriminative fine-tuning),
            which each group of the optimiser carries as "lr_scale".
        settings: from params.yaml.
    """
    _spare_the_compiler()
    groups = _param_groups(groups_by_depth, settings)
    parameters = [parameter for group in groups for parameter in group["params"]]
    fused = all(parameter.device.type in _FUSED for parameter in parameters)
    if settings.name == "adamw":
        betas = (settings.momentum, 0.999)
        return torch.optim.AdamW(groups, settings.lr, betas=betas, fused=fused)
    if settings.name == "muon":
        return Muon(groups, settings.lr, settings.momentum)
    moving = settings.momentum > 0
    optimizer = torch.optim.SGD(
        groups, settings.lr, settings.momentum, nesterov=moving, fused=fused
    )
    if moving:
        # A fused step refuses parameters that come to move later than others of their group.
        # From zeros, the first step is the same as from nothing.
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def step_function(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Return the optimiser's `step` without the wrappers that torch puts around it.

    They import torch's compiler, which takes a second and is not used here, to tell it where it may
    not look. Beside that they turn gradients off, as is done here too, and call hooks, of which
    there are none.
    """
    step = torch.no_grad()(inspect.unwrap(type(optimizer).step))
    return partial(step, optimizer)


def _spare_the_compiler() -> None:
    """Keep other methods of optimisers from importing torch's compiler, see `step_function`.

    At its first call such a method is replaced by one that a compiled program does not enter, and
    that one is kept in an attribute of the plain method: the plain method itself stands there now.
    """
    for method in vars(torch.optim.Optimizer).values():
        plain = getattr(method, "__wrapped__", None)
        if plain is not None and not hasattr(plain, _KEPT_AS):
            setattr(plain, _KEPT_AS, plain)


def _param_groups(
    groups_by_depth: Sequence[Sequence[nn.Parameter]], settings: Optimizer
) -> list[dict[str, Any]]:
    """Merge parameters of the same rate and weight decay: the fewer groups, the faster a step."""
    merged: dict[tuple[float, bool, bool], list[nn.Parameter]] = {}
    for below_head, parameters in enumerate(reversed(groups_by_depth)):
        scale = settings.layer_decay**below_head
        for parameter in parameters:
            decays = parameter.ndim > 1
            orthogonal = settings.name == "muon" and below_head > 0 and decays
            merged.setdefault((scale, decays, orthogonal), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": settings.lr * scale,
            "lr_scale": scale,
            "weight_decay": settings.weight_decay if decays else 0.0,
            **({"orthogonal": orthogonal} if settings.name == "muon" else {}),
        }
        for (scale, decays, orthogonal), parameters in merged.items()
    ]


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of the head; groups below it get their part of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_scale"]


def state_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what the optimiser remembers, by 'number of the parameter/name'."""
    return {
        f"{index}/{key}": value
        for index, entry in optimizer.state_dict()["state"].items()
        for key, value in entry.items()
    }


def restore_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `state_tensors` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    # A fused step walks memory: its state must lie there in the order of its parameter.
    for parameter, entry in optimizer.state.items():
        for key, value in entry.items():
            if value.shape == parameter.shape:
                entry[key] = torch.empty_like(parameter).copy_(value)
