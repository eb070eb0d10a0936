"""Contrast with class prototypes, against scipy's von Mises-Fisher distribution."""

import numpy as np
import pytest
import torch
from scipy.special import ive
from scipy.stats import vonmises_fisher
from torch.nn import functional

from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.networks import build_network
from pipeline.vision.training.batches import Share
from pipeline.vision.training.contrast import Prototypes, concentration, log_constant
from pipeline.vision.training.trainer import Trainer
from pipeline.vision.training.worker import Worker
from tests.jobs import RECIPE, job_on

DIMENSIONS = 16
ALONE = Worker(Share(), torch.device("cpu"), Arithmetic())


@pytest.mark.parametrize("dimensions", [16, 31, 128])
def test_the_constant_is_the_bessel_function(dimensions):
    order, pulls = dimensions / 2 - 1, np.array([3.0, 40.0, 1e3, 1e5])
    expected = np.log(ive(order, pulls)) + pulls - order * np.log(pulls)
    found = log_constant(torch.tensor(pulls), dimensions)
    assert np.abs(found.numpy() - expected).max() < 2e-6
    near = log_constant(torch.tensor([0.0, 1e-6], dtype=torch.float64), dimensions)
    assert near[0] == pytest.approx(near[1].item())


def sample(seed, pull, count):
    mean = np.random.default_rng(seed).normal(size=DIMENSIONS)
    drawn = vonmises_fisher(mean / np.linalg.norm(mean), pull).rvs(count, random_state=seed)
    return torch.tensor(drawn, dtype=torch.float32)


def test_the_concentration_is_found_again():
    for pull in (5.0, 50.0, 500.0):
        length = sample(0, pull, 20_000).mean(dim=0).norm()
        assert concentration(length, DIMENSIONS).item() == pytest.approx(pull, rel=0.05)
    ends = concentration(torch.tensor([0.0, 1.0]), DIMENSIONS)
    assert ends.tolist() == [0.0, 1e5]


def test_the_loss_is_that_of_many_samples():
    """The mean of e^(z.z'/t) over a class's directions, instead of its closed form."""
    classes = [sample(1, 20.0, 40_000), sample(2, 60.0, 40_000), sample(3, 5.0, 40_000)]
    prototypes = Prototypes(3, DIMENSIONS, ALONE)
    prototypes.begin_epoch(0)
    for label, directions in enumerate(classes):
        prototypes.gather(directions, torch.full((len(directions),), label))
    prototypes.begin_epoch(1)
    own = torch.cat([sample(4, 20.0, 4), sample(5, 60.0, 4)])
    labels, priors = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1]), torch.tensor([0.7, 0.2, 0.1])
    sums = torch.stack([(own @ other.T / 0.5).exp().mean(dim=1) for other in classes], dim=1)
    expected = functional.cross_entropy(sums.log() + priors.log(), labels, reduction="none")
    found = prototypes.loss(own, labels, priors.log(), 0.5)
    assert torch.allclose(found, expected, atol=0.03)


def test_a_class_that_did_not_come_keeps_its_distribution():
    prototypes = Prototypes(2, DIMENSIONS, ALONE)
    prototypes.begin_epoch(0)
    prototypes.gather(sample(0, 30.0, 50), torch.arange(50) % 2)
    prototypes.begin_epoch(1)
    before = prototypes.tensors()["pulls"].clone()
    prototypes.gather(sample(1, 30.0, 50), torch.zeros(50, dtype=torch.int64))
    prototypes.begin_epoch(1)
    assert torch.equal(prototypes.tensors()["pulls"], before)  # the epoch only went on
    prototypes.begin_epoch(2)
    after = prototypes.tensors()["pulls"]
    assert not torch.equal(after[0], before[0])
    assert torch.equal(after[1], before[1])


def trainer(sets, **changes):
    values = RECIPE.model_dump(mode="json") | {"global_batch_size": 16, "epochs": 4} | changes
    torch.manual_seed(0)
    network = build_network("lenet5", {}, (1, 16, 16), 3)
    job = job_on(sets, type(RECIPE).model_validate(values, strict=False))
    return Trainer(network, job, ALONE)


CONTRAST = {"contrast": {"name": "prototypes", "dimensions": 32}, "augment": [{"hflip": {}}]}


def test_in_the_first_epoch_nothing_is_known(sets):
    """The second head changes nothing then; its loss is the entropy of the priors."""
    runs = [trainer(sets), trainer(sets, contrast={"name": "prototypes", "weight": 2.0})]
    plain, contrasted = (one.advance(100) for one in runs)
    shares = np.bincount(runs[0]._job.training_set.labels) / 90
    entropy = -(shares * np.log(shares)).sum()
    assert contrasted["train_loss"] == pytest.approx(plain["train_loss"] + 2 * entropy, rel=1e-2)
    assert contrasted["val_loss"] == pytest.approx(plain["val_loss"], rel=1e-4)


def test_views_draw_classes_apart_and_a_resumed_training_ends_in_the_same_bits(sets, tmp_path):
    whole, parts = trainer(sets, **CONTRAST), trainer(sets, **CONTRAST)
    while not whole.done:
        whole.advance(100)
    parts.advance(100)
    parts.advance(100)
    parts.advance(2)
    parts.save(tmp_path / "checkpoint")
    parts = trainer(sets, **CONTRAST)
    parts.restore(tmp_path / "checkpoint")
    while not parts.done:
        parts.advance(3)
    assert all(
        torch.equal(whole.best_weights[name], parts.best_weights[name])
        for name in whole.best_weights
    )
    losses = [record["train_loss"] for record in whole.state.history]
    assert losses[-1] < losses[1]
    assert set(whole.best_weights) == set(whole.network.state_dict())  # the second head stays here
