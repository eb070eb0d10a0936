"""Sharpness-aware steps, recomputed with autograd on a copy of the network."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.data.shards.shards import ImageSet
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.networks import build_network
from pipeline.vision.training.batches import Share
from pipeline.vision.training.sharpness import Ascent
from pipeline.vision.training.trainer import Trainer
from pipeline.vision.training.worker import Worker
from tests.jobs import RECIPE, job_on

RHO = 0.3


def gradient(network, images, labels):
    loss = functional.cross_entropy(network(images), labels)
    return loss.item(), torch.autograd.grad(loss, list(network.parameters()))


@pytest.mark.parametrize("rule", ["sgd", "adamw"])
def test_a_step_recomputed(sets, rule):
    values = RECIPE.model_dump(mode="json") | {
        "epochs": 1,
        "global_batch_size": 90,
        "optimizer": {"name": rule, "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}
        | {"sam_rho": RHO},
        "schedule": {"name": "constant"},
    }
    torch.manual_seed(0)
    network = build_network("lenet5", {}, (1, 16, 16), 3)
    before = copy.deepcopy(network)
    job = job_on(sets, type(RECIPE).model_validate(values, strict=False))
    one = Trainer(network, job, Worker(Share(), torch.device("cpu"), Arithmetic()))
    record = one.advance(1)

    training_set = ImageSet.open(sets[0])
    raw = torch.from_numpy(training_set.gather(range(len(training_set)))).permute(0, 3, 1, 2)
    images = (raw / 255 - 0.2) / 0.3
    labels = torch.tensor(training_set.labels.tolist())
    loss, first = gradient(before, images, labels)
    assert record["train_loss"] == pytest.approx(loss, rel=1e-5)
    length = torch.cat([part.flatten() for part in first]).norm()
    uphill = copy.deepcopy(before)
    with torch.no_grad():
        for weight, part in zip(uphill.parameters(), first, strict=True):
            weight.add_(RHO * part / length)
    worse, second = gradient(uphill, images, labels)
    assert worse > loss
    start, end = list(before.parameters()), list(one.network.parameters())
    for was, came, slope in zip(start, end, second, strict=True):
        # AdamW's first step goes by the sign: its moments are both those of one gradient.
        step = slope if rule == "sgd" else slope.sign()
        clear = slope.abs() > 1e-5
        assert clear.any()
        assert torch.allclose(came[clear], (was - 0.1 * step)[clear], atol=2e-4)


def test_weights_return_to_the_bit_and_gradients_of_zeros_move_nothing():
    torch.manual_seed(0)
    layer, frozen = nn.Linear(3, 2), nn.Linear(2, 2).requires_grad_(False)
    before = [one.detach().clone() for one in (*layer.parameters(), *frozen.parameters())]
    ascent = Ascent([*layer.parameters(), *frozen.parameters()], 1e-3)
    layer(torch.rand(5, 3)).square().sum().backward()
    ascent.climb()
    pairs = zip(layer.parameters(), before[:2], strict=True)
    moved = torch.cat([(now.detach() - was).flatten() for now, was in pairs])
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)
    assert layer.weight.grad is None
    ascent.back()
    after = [*layer.parameters(), *frozen.parameters()]
    assert all(torch.equal(now, was) for now, was in zip(after, before, strict=True))
    (layer(torch.rand(5, 3)).sum() * 0).backward()
    ascent.climb()
    assert all(torch.equal(now, was) for now, was in zip(after, before, strict=True))
