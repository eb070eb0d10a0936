import numpy as np
import pytest
import torch

from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.inspection.examples import training_examples
from pipeline.vision.networks import build_network
from pipeline.vision.training.batches import Share
from pipeline.vision.training.trainer import Trainer
from pipeline.vision.training.worker import Worker
from tests.jobs import RECIPE, job_on
from tests.packed import BARS, bars, write_set

FLIPS = [{"hflip": {"p": 0.5}}, {"vflip": {"p": 0.5}}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sets") / "train"


@pytest.fixture(scope="module")
def images(folder):
    return write_set(folder, *bars(90), BARS)


def recipe(**changes):
    values = RECIPE.model_dump(mode="json") | {"global_batch_size": 32} | changes
    return type(RECIPE).model_validate(values, strict=False)


def test_nothing_to_see_where_images_are_trained_on_as_they_are(images):
    assert training_examples(images, recipe(), 6) == []


def test_mixup_recomputed(images):
    found = training_examples(images, recipe(mixup_alpha=1.0, mix_partners="other_classes"), 6)
    assert len(found) == 6
    weights = [one.partner.weight for one in found]
    assert weights == sorted(weights)
    assert weights[0] < 0.3
    assert weights[-1] > 0.7
    for one in found:
        assert one.augmented is None
        own, partner = one.partner.weight, 1 - one.partner.weight
        expected = own * one.image + partner * one.partner.image
        np.testing.assert_allclose(one.trained_on, expected, atol=0.51)
        assert dict(one.target) == pytest.approx({one.label: own, one.partner.label: partner})


def test_cutmix_recomputed(images):
    for one in training_examples(images, recipe(cutmix_alpha=1.0, mix_partners="other_classes"), 6):
        pasted = (one.trained_on != one.image).any(axis=2)
        assert (one.trained_on[pasted] == one.partner.image[pasted]).all()
        # What was pasted may look like what it covers, so that it seems less.
        assert pasted.mean() <= 1 - one.partner.weight + 1e-6
        assert dict(one.target).get(one.label, 0.0) == pytest.approx(one.partner.weight)
        assert one.partner.how == "cutmix"


def test_both_kinds_of_mixing_are_shown(images):
    how = recipe(mixup_alpha=1.0, cutmix_alpha=1.0, global_batch_size=16)
    kinds = [one.partner.how for one in training_examples(images, how, 6)]
    assert sorted(kinds) == ["cutmix"] * 3 + ["mixup"] * 3


def test_augmentation_without_mixing(images):
    found = training_examples(images, recipe(augment=FLIPS, label_smoothing=0.3), 6)
    for one in found:
        assert one.partner is None
        flips = [one.image[::down, ::right] for down in (1, -1) for right in (1, -1)]
        assert any((one.augmented == flip).all() for flip in flips)
        np.testing.assert_array_equal(one.trained_on, one.augmented)
        assert one.target[0] == (one.label, pytest.approx(0.8))
        assert [share for _, share in one.target] == pytest.approx([0.8, 0.1, 0.1])


@pytest.mark.parametrize("workers", [1, 2])
def test_they_are_what_the_trainer_steps_on(folder, images, workers):
    """The network is asked for the inputs of its first step, at any number of workers."""
    how = recipe(mixup_alpha=0.5, augment=FLIPS, seed=3)
    seen = []
    for rank in range(workers):
        network = build_network("lenet5", {}, (1, 16, 16), 3)
        worker = Worker(Share(rank, workers), torch.device("cpu"), Arithmetic())
        trainer = Trainer(network, job_on((folder, folder), how), worker)
        network.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
        # There is no process group that gradients could be exchanged in, nor any need.
        trainer._step._replica._first_trained = 0
        trainer.step_at(0.1)
    first = (torch.cat(seen) * 0.3 + 0.2) * 255
    stepped_on = first.permute(0, 2, 3, 1).numpy()
    for one in training_examples(images, how, 6):
        assert np.abs(stepped_on - one.trained_on).max(axis=(1, 2, 3)).min() < 0.51


def test_16_bits_stay_16_bits(tmp_path):
    wide = bars(90)[0].astype(np.uint16) * 257
    images = write_set(tmp_path / "wide", wide, bars(90)[1], BARS)
    one = training_examples(images, recipe(augment=FLIPS), 1)[0]
    assert one.image.dtype == one.trained_on.dtype == np.uint16
    assert one.trained_on.max() == one.image.max()
