"""Trainings above loaded weights: frozen, unfrozen by and by, and their new heads."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from pipeline.data.shards.shards import ImageSet
from pipeline.params.choices.training import Training
from pipeline.vision.networks import build_network
from pipeline.vision.training.batches import Share
from pipeline.vision.training.losses import cross_entropy
from pipeline.vision.training.norm_statistics import batches_needed
from pipeline.vision.training.probe import fit_probe
from pipeline.vision.training.sources import Features
from pipeline.vision.training.trainer import Trainer
from pipeline.vision.training.worker import Worker
from pipeline.vision.weights.loading import Loaded
from tests.jobs import job_on
from tests.unit.vision.training.trainers import (
    ALL_STEPS,
    CPU,
    FP32,
    pixels_of,
    recipe,
    trainer,
    without_speed,
)


def test_a_frozen_extractor_stays_as_it_was(sets):
    # with mixup features change from epoch to epoch, so the extractor runs each time
    for changes in ({}, {"mixup_alpha": 0.5}):
        one = trainer(sets, recipe(trainable="head", weights="elsewhere", **changes), "resnet20")
        before = {k: v.clone() for k, v in one.network.extractor.state_dict().items()}
        head = one.network.head.weight.clone()
        one.advance(ALL_STEPS)
        after = one.network.extractor.state_dict()
        assert all(torch.equal(after[name], value) for name, value in before.items())
        assert not torch.equal(one.network.head.weight, head)


def test_features_computed_once_train_the_same_head(sets, monkeypatch):
    how = recipe(trainable="head", weights="elsewhere", label_smoothing=0.1)
    cached = trainer(sets, how, "resnet20")
    assert cached._step.judged is cached.network.head
    monkeypatch.setattr(Training, "same_features", False)
    again = trainer(sets, how, "resnet20")
    assert again._step.judged is again.network
    for _ in range(3):
        records = [without_speed(one.advance(ALL_STEPS)) for one in (cached, again)]
        assert records[0] == pytest.approx(records[1], rel=1e-4)
    assert torch.allclose(cached.network.head.weight, again.network.head.weight, atol=1e-5)


def test_features_are_judged_many_at_a_time_however_large_the_images(sets, monkeypatch):
    monkeypatch.setattr("pipeline.vision.training.trainer._VALIDATION_VALUES", 16 * 16)
    one = trainer(sets, recipe(trainable="head", weights="elsewhere", global_batch_size=90))
    taken, fetch = [], Features.fetch
    monkeypatch.setattr(
        Features, "fetch", lambda source, rows: taken.append(len(rows)) or fetch(source, rows)
    )
    one.advance(1)
    assert taken == [90, 90, 30]  # to fit the new head, to train, to validate


def test_a_probe_solves_the_head_with_a_smaller_penalty_in_each_epoch(sets, tmp_path):
    how = recipe(trainable="probe", weights="elsewhere", global_batch_size=90)
    one = trainer(sets, how, "resnet20")
    extractor = {k: v.clone() for k, v in one.network.extractor.state_dict().items()}
    features = one._features().values
    labels = torch.from_numpy(ImageSet.open(sets[0]).labels.astype("int64"))
    for epoch in range(4):
        record = one.advance(ALL_STEPS)
        scaled = (features - features.mean(0)) / features.std(0, correction=0)
        reference = LogisticRegression(C=10 ** (epoch / 2) / 90, tol=1e-10, max_iter=10_000)
        reference.fit(scaled, labels)
        expected = log_loss(labels, reference.predict_proba(scaled))
        assert record["train_loss"] == pytest.approx(expected, abs=2e-3)
        if epoch == 1:
            one.save(tmp_path)
    assert all(torch.equal(v, extractor[k]) for k, v in one.network.extractor.state_dict().items())
    losses = [record["train_loss"] for record in one.state.history]
    assert losses == sorted(losses, reverse=True)
    again = trainer(sets, how, "resnet20")
    again.restore(tmp_path)
    while not again.done:
        again.advance(ALL_STEPS)
    assert torch.equal(again.network.head.weight, one.network.head.weight)


def test_gradual_unfreezing_goes_from_the_head_down(sets):
    one = trainer(sets, recipe(trainable="gradual", weights="elsewhere"), "resnet20")
    moved = []
    for _ in range(4):
        before = {n: p.detach().clone() for n, p in one.network.named_parameters()}
        one.advance(ALL_STEPS)
        after = dict(one.network.named_parameters())
        moved.append({n for n, value in before.items() if not torch.equal(after[n], value)})
    assert moved[0] == {"head.weight", "head.bias"}
    assert moved[0] < moved[1] < moved[2] == moved[3] == set(before)
    assert not any(name.startswith("extractor.conv1") for name in moved[1])


@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
@pytest.mark.parametrize("trainable", ["all", "head"])
def test_a_new_head_above_loaded_weights_starts_as_a_probe(sets, name, trainable):
    how = recipe(weights="elsewhere", trainable=trainable, epochs=1, label_smoothing=0.1)
    one = trainer(sets, how, name)
    expected = build_network(name, {}, (1, 16, 16), 3)
    expected.load_state_dict(one.network.state_dict())
    images, labels = pixels_of(ImageSet.open(sets[0]))
    if name == "resnet20" and trainable == "all":  # norms normalise by these images from now on
        first = one.steps_per_epoch - batches_needed(one.steps_per_epoch, 16)
        stream = one._batches.stream(Share(), 0, first)
        update_bn([one._step._compose(plan)[0] for plan in stream], expected)
    with torch.inference_mode():
        features = expected.eval().extractor(images)
    targets = torch.eye(3)[labels] * 0.9 + 0.1 / 3
    weight, bias = fit_probe(features.clone(), targets, cross_entropy)
    one._begin_epoch()
    with torch.inference_mode():
        found = one.network.head(features)
    assert torch.allclose(found, features @ weight.T + bias, atol=0.02)
    assert functional.cross_entropy(found, labels) < 0.8  # a guess is log(3) = 1.1
    assert one.network.head.training


def test_a_head_that_was_loaded_stays(sets):
    torch.manual_seed(0)
    network = build_network("lenet5", {}, (1, 16, 16), 3)
    loaded = Loaded(("head.weight", "head.bias"), (), (), ())
    one = Trainer(network, job_on(sets, recipe(weights="x")), Worker(Share(), CPU, FP32), loaded)
    before = network.head.weight.detach().clone()
    one._begin_epoch()
    assert torch.equal(network.head.weight, before)
