import numpy as np
import pytest
import torch

from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.networks import build_network
from pipeline.vision.training.batches import Batches, Share, compose
from pipeline.vision.training.priors import target_counts
from pipeline.vision.training.trainer import Trainer
from pipeline.vision.training.worker import Worker
from tests.jobs import RECIPE, job_on
from tests.packed import write_set

CPU = torch.device("cpu")
COUNTS = np.array([950, 240, 10, 0])
SIDES = (16, 12)


class Labels:
    """A source of black images."""

    def __init__(self, counts):
        self.labels = np.repeat(np.arange(len(counts)), counts)

    def fetch(self, rows):
        return torch.zeros(len(rows), 1, *SIDES)

    def prepare(self, raw, _draws):
        return raw


def recipe(**changes):
    values = RECIPE.model_dump(mode="json") | {"epochs": 10, "global_batch_size": 64} | changes
    return type(RECIPE).model_validate(values, strict=False)


def delivered(how, counts, epochs):
    """Add up the targets of the batches that some epochs train on, per epoch."""
    batches = Batches(Labels(counts), how, None, SIDES)
    rows = torch.eye(len(counts), dtype=torch.float64)
    total = torch.zeros(len(counts), dtype=torch.float64)
    for epoch in epochs:
        for plan in batches.stream(Share(), epoch, 0):
            total += compose(plan, batches._source, rows, CPU)[1].sum(0)
    return total.numpy() / len(epochs)


@pytest.mark.parametrize("sampler", ["natural", "square_root", "balanced"])
@pytest.mark.parametrize("mixing", [{}, {"mixup_alpha": 0.2}, {"cutmix_alpha": 1.0}, "both"])
@pytest.mark.parametrize("partners", ["any", "other_classes"])
def test_the_counts_are_those_of_the_targets_that_batches_deliver(sampler, mixing, partners):
    both = {"mixup_alpha": 0.3, "cutmix_alpha": 0.5}
    mixing = both if mixing == "both" else mixing
    how = recipe(sampler={"name": sampler}, mix_partners=partners, **mixing)
    expected = target_counts(COUNTS, how, 0, SIDES)
    assert expected.sum() == pytest.approx(COUNTS.sum())
    found = delivered(how, COUNTS, range(12))
    # Some 14,000 targets: 1 % of the images, and 15 % of the smallest class.
    assert found == pytest.approx(expected, abs=0.01 * COUNTS.sum(), rel=0.15)
    assert found[2] == pytest.approx(expected[2], rel=0.15)
    assert found[3] == expected[3] == 0


def test_partners_of_other_classes_even_out_two_classes():
    how = recipe(mixup_alpha=0.2, mix_partners="other_classes")
    uneven = np.array([950, 50])
    expected = target_counts(uneven, how, 0, SIDES) / 1000
    # Every pair has one of each, but for batches without the second class: 0.95^64 = 4 %.
    assert expected == pytest.approx([0.52, 0.48], abs=0.01)
    permuted = target_counts(uneven, recipe(mixup_alpha=0.2), 0, SIDES)
    assert permuted.tolist() == [950, 50]


def test_without_sampler_and_mixing_they_are_the_images():
    assert target_counts(COUNTS, recipe(), 0, SIDES).tolist() == COUNTS.tolist()


def test_a_sampler_that_takes_over_later_counts_from_then_on():
    how = recipe(sampler={"name": "balanced", "start": 0.5})
    assert target_counts(COUNTS, how, 4, SIDES).tolist() == COUNTS.tolist()
    assert target_counts(COUNTS, how, 5, SIDES).tolist() == [400, 400, 400, 0]


SHAPES = {"blocks": [{"filters": 4, "kernel": 3}], "dense": [{"units": 8}]}


def stripes(count, share, seed):
    """Draw noise with a faint stripe: upright, or lying in a `share` of the images."""
    rng = np.random.default_rng(seed)
    images = rng.normal(128, 40, (count, 8, 8, 1))
    labels = (np.arange(count) < share * count).astype(int)
    images[labels == 0, :, 3] += 20
    images[labels == 1, 3] += 20
    return images.clip(0, 255).astype(np.uint8), labels.tolist()


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """Packed sets: 95 to 5 images in training, as many of each in validation."""
    folder = tmp_path_factory.mktemp("uneven")
    write_set(folder / "train", *stripes(2400, 0.05, seed=1), ("upright", "lying"))
    write_set(folder / "val", *stripes(1000, 0.5, seed=2), ("upright", "lying"))
    return folder / "train", folder / "val"


@pytest.mark.parametrize("loss", ["balanced_softmax", "logit_adjusted", "class_balanced"])
def test_mixing_does_not_cost_what_a_loss_gains_on_uneven_classes(uneven, loss):
    found = {}
    for name, mixing in {
        "none": {},
        "any": {"mixup_alpha": 0.2},
        "other": {"mixup_alpha": 0.2, "mix_partners": "other_classes"},
        "cut": {"cutmix_alpha": 1.0, "mix_partners": "other_classes"},
    }.items():
        how = recipe(
            epochs=8, loss={"name": loss}, optimizer={"name": "adamw", "lr": 0.01}, **mixing
        )
        torch.manual_seed(0)
        network = build_network("plain", SHAPES, (1, 8, 8), 2)
        job = job_on(uneven, how, mean=(0.5,), std=(0.2,))
        one = Trainer(network, job, Worker(Share(), CPU, Arithmetic()))
        while not one.done:
            record = one.advance(10**6)
        found[name] = record["val_balanced_accuracy"]
    assert min(found.values()) > found["none"] - 0.05
