import copy

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from pipeline.params.choices.training import AdamW, Muon, Sgd
from pipeline.vision.training.optimizers import (
    build_optimizer,
    set_learning_rate,
    step_function,
)

NAMES = pytest.mark.parametrize("name", ["sgd", "adamw"])
ALL = pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])


def settings(name="sgd", **changes):
    values = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "layer_decay": 1.0}
    return {"sgd": Sgd, "adamw": AdamW, "muon": Muon}[name](name=name, **(values | changes))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


def by_depth(net):
    return [[*net[0].parameters(), *net[1].parameters()], list(net[3].parameters())]


def give_gradients(net, step):
    generator = torch.Generator().manual_seed(step)
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=generator)


def take_steps(net, optimizer, steps):
    for step in steps:
        give_gradients(net, step)
        optimizer.step()
        optimizer.zero_grad()
    return [parameter.detach().clone() for parameter in net.parameters()]


def assert_close(some, others, **tolerance):
    for one, other in zip(some, others, strict=True):
        assert torch.allclose(one, other, **tolerance)


@NAMES
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_are_those_of_torch_unfused(name, momentum):
    net = network()
    twin = copy.deepcopy(net)
    optimizer = build_optimizer(by_depth(net), settings(name, momentum=momentum))
    groups = [
        {"params": [p for p in twin.parameters() if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in twin.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    if name == "sgd":
        plain = torch.optim.SGD(groups, 0.1, momentum, nesterov=momentum > 0, foreach=False)
    else:
        plain = torch.optim.AdamW(groups, 0.1, betas=(momentum, 0.999), foreach=False)
    assert_close(take_steps(net, optimizer, range(5)), take_steps(twin, plain, range(5)))


@NAMES
def test_steps_are_fused_and_in_two_groups(name):
    net = network()
    optimizer = build_optimizer(by_depth(net), settings(name))
    assert [group["fused"] for group in optimizer.param_groups] == [True, True]
    decays = {
        parameter: group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert decays == {p: 0.01 if p.ndim > 1 else 0.0 for p in net.parameters()}


@ALL
def test_rates_fall_from_the_head_towards_the_input(name):
    a, b, c = ([nn.Parameter(torch.zeros(2, 2)), nn.Parameter(torch.zeros(2))] for _ in range(3))
    optimizer = build_optimizer([a, b, c], settings(name, layer_decay=0.5))

    def rates():
        return {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}

    assert rates() == {p: 0.1 * s for s, ps in ((0.25, a), (0.5, b), (1.0, c)) for p in ps}
    set_learning_rate(optimizer, 8.0)
    assert rates() == {p: 8.0 * s for s, ps in ((0.25, a), (0.5, b), (1.0, c)) for p in ps}


def test_a_step_takes_the_rate_that_was_set():
    parameter = nn.Parameter(torch.ones(2))
    optimizer = build_optimizer([[parameter]], settings(momentum=0.0))
    set_learning_rate(optimizer, 0.25)
    parameter.grad = torch.ones(2)
    optimizer.step()
    assert parameter.tolist() == [0.75, 0.75]


@NAMES
def test_frozen_parameters_stay_and_join_when_unfrozen(name):
    net = network()
    twin = copy.deepcopy(net)
    frozen = copy.deepcopy(list(net[0].parameters()))
    optimizer = build_optimizer(by_depth(net), settings(name, weight_decay=0.5))
    net[0].requires_grad_(False)
    take_steps(net, optimizer, range(3))
    for before, parameter in zip(frozen, net[0].parameters(), strict=True):
        assert torch.equal(before, parameter)
    net[0].requires_grad_(True)
    take_steps(net, optimizer, range(3, 6))
    # As if its optimiser had only begun then.
    late = build_optimizer([list(twin[0].parameters())], settings(name, weight_decay=0.5))
    take_steps(twin, late, range(3, 6))
    assert_close(net[0].parameters(), twin[0].parameters())


@ALL
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("at", [0, 3])
def test_goes_on_from_a_saved_state_of_tensors(name, momentum, at):
    net = network()
    chosen = settings(name, momentum=momentum)
    optimizer = build_optimizer(by_depth(net), chosen)
    net[0].requires_grad_(False)
    take_steps(net, optimizer, range(at))
    net[0].requires_grad_(True)
    state = optimizer.state_dict()["state"]
    tensors = {f"{i}/{key}": value for i, entry in state.items() for key, value in entry.items()}
    twin = copy.deepcopy(net)
    resumed = build_optimizer(by_depth(twin), chosen)
    restored = {}
    for key, value in load(save(tensors)).items():
        index, _, name_of_value = key.partition("/")
        restored.setdefault(int(index), {})[name_of_value] = value
    groups = resumed.state_dict()["param_groups"]
    resumed.load_state_dict({"state": restored, "param_groups": groups})
    undisturbed = take_steps(net, optimizer, range(at, 6))
    assert_close(take_steps(twin, resumed, range(at, 6)), undisturbed, rtol=0, atol=0)


@ALL
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_bare_step_is_torchs_own(name, momentum):
    found = []
    for bare in (True, False):
        net = network()
        optimizer = build_optimizer(by_depth(net), settings(name, momentum=momentum))
        update = step_function(optimizer) if bare else optimizer.step
        for step in range(3):
            give_gradients(net, step)
            update()
            optimizer.zero_grad()
        found.append([parameter.detach().clone() for parameter in net.parameters()])
        assert torch.is_grad_enabled()
        assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
