import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.networks import build_network
from pipeline.vision.networks.families import REPLACED
from pipeline.vision.training.batches import Share
from pipeline.vision.training.norm_statistics import (
    batches_needed,
    fit_statistics,
    training_norms,
)
from pipeline.vision.training.trainer import Trainer
from pipeline.vision.training.worker import Worker
from tests.jobs import RECIPE, job_on
from tests.packed import BARS, bars, write_set

WORKER = Worker(Share(), torch.device("cpu"), Arithmetic())
ALL_STEPS = 10**6
PLAIN = {
    "blocks": [
        {"filters": 6, "kernel": 3, "batch_norm": True, "pool": {"kind": "max", "size": 4}},
        {"filters": 8, "kernel": 3, "batch_norm": True},
    ],
    "dense": [{"units": 9, "dropout": 0.5}],
}


def statistics(module):
    """Return the means and variances of all norms in a row."""
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm)]
    return torch.cat([torch.cat([norm.running_mean, norm.running_var]) for norm in norms])


def references(module, batches):
    """Return the statistics that torch's own function finds, without dropout."""
    reference = copy.deepcopy(module)
    for part in reference.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        if type(part).__name__ == "StochasticDepth":
            part.p = 0.0
    update_bn(batches, reference)
    return statistics(reference)


@pytest.mark.parametrize("name", [*REPLACED, "resnet20", "plain"])
def test_statistics_are_those_that_torch_finds(name):
    torch.manual_seed(0)
    args = PLAIN if name == "plain" else {}
    network = build_network(name, args, (3, 64, 64), 3).train()
    norms = training_norms(network)
    assert bool(norms) == (not name.startswith(("alexnet", "squeezenet", "convnext")))
    if not norms:
        return
    batches = [torch.randn(4, 3, 64, 64), 2 * torch.randn(2, 3, 64, 64) + 1]
    expected = references(network, batches)
    counters = {key: value.clone() for key, value in network.state_dict().items() if "num_b" in key}
    fit_statistics(network, norms, batches, WORKER)
    assert torch.allclose(statistics(network), expected, rtol=1e-4, atol=1e-5)
    assert not any(module.training for module in network.modules())
    assert all(torch.equal(network.state_dict()[key], counters[key]) for key in counters)


def test_norms_that_rest_keep_their_statistics():
    network = build_network("plain", PLAIN, (3, 16, 16), 3).train()
    first, second = (m for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    first.eval()
    before = statistics(first).clone(), statistics(second).clone()
    fit_statistics(network, training_norms(network), [torch.randn(8, 3, 16, 16)], WORKER)
    assert torch.equal(statistics(first), before[0])
    assert not torch.equal(statistics(second), before[1])


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    write_set(folder / "train", *bars(90), BARS)
    write_set(folder / "val", *bars(30, seed=1), BARS)
    return folder / "train", folder / "val"


def trainer_on(sets, momentum=0.1, **changes):
    values = {"epochs": 2, "global_batch_size": 10, **changes}
    recipe = type(RECIPE).model_validate(RECIPE.model_dump(mode="json") | values, strict=False)
    torch.manual_seed(0)
    network = build_network("plain", PLAIN, (1, 16, 16), 3)
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = momentum
    return Trainer(network, job_on(sets, recipe), WORKER)


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}, {"mixup_alpha": 0.4}])
def test_what_is_judged_and_kept_has_the_statistics_of_its_weights(sets, changes):
    one = trainer_on(sets, **changes)
    one.advance(ALL_STEPS)
    last = [
        one._step._compose(plan)[0]
        for plan in one._batches.stream(Share(), 0, 9 - batches_needed(9, 10))
    ]
    expected = references(one._step.judged, last)
    assert torch.allclose(statistics(one._step.judged), expected, atol=1e-5)
    kept = build_network("plain", PLAIN, (1, 16, 16), 3)
    kept.load_state_dict(one.best_weights)
    assert torch.allclose(statistics(kept), expected, atol=1e-5)


def test_a_momentum_that_lags_behind_costs_no_accuracy(sets):
    """With running averages that hardly move, validation stayed at chance."""
    changes = {"epochs": 6, "optimizer": {"name": "adamw", "lr": 0.01}}
    records = []
    for momentum in (0.1, 0.0001):
        one = trainer_on(sets, momentum, **changes)
        while not one.done:
            record = one.advance(ALL_STEPS)
        records.append({key: value for key, value in record.items() if key != "images_per_s"})
    assert records[0] == pytest.approx(records[1])
    assert records[1]["val_accuracy"] > 0.9


@pytest.mark.parametrize(
    ("steps", "batch", "expected"),
    [(1, 64, 1), (3, 64, 3), (20, 64, 4), (80, 64, 10), (999, 64, 16)],
)
def test_an_eighth_of_an_epoch_at_most_but_for_the_smallest(steps, batch, expected):
    assert batches_needed(steps, batch) == expected
