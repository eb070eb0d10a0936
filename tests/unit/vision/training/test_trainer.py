"""Steps, epochs and what is measured after them, recomputed."""

import math

import pytest
import torch
from sklearn.metrics import f1_score
from torch.nn import functional

from pipeline.data.shards.shards import ImageSet
from pipeline.vision.networks import build_network
from tests.packed import BARS, bars, write_set
from tests.unit.vision.training.trainers import (
    ALL_STEPS,
    CONSTANT,
    optimizer,
    pixels_of,
    recipe,
    trainer,
    weights,
    without_speed,
)


def test_one_sgd_step_recomputed(sets):
    """One epoch of one step: the loss, the gradient and the update by hand."""
    how = recipe(
        epochs=1,
        global_batch_size=90,
        label_smoothing=0.1,
        optimizer=optimizer(weight_decay=0.5),
        schedule=CONSTANT,
    )
    one = trainer(sets, how)
    before = {name: p.detach().clone() for name, p in one.network.named_parameters()}
    reference = build_network("lenet5", {}, (1, 16, 16), 3)
    reference.load_state_dict(one.network.state_dict())
    images, labels = pixels_of(ImageSet.open(sets[0]))
    loss = functional.cross_entropy(reference(images), labels, label_smoothing=0.1)
    loss.backward()
    record = one.advance(1)
    assert record["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in reference.named_parameters():
        decay = 0.5 if parameter.ndim > 1 else 0.0  # biases do not decay
        expected = before[name] - 0.1 * (parameter.grad + decay * before[name])
        found = dict(one.network.named_parameters())[name]
        assert torch.allclose(found, expected, atol=1e-6), name


def test_a_batch_in_parts_gives_the_same_step(sets):
    how = {"global_batch_size": 90, "epochs": 1, "optimizer": optimizer(), "schedule": CONSTANT}
    whole, parts = trainer(sets, recipe(**how)), trainer(sets, recipe(**how, accumulate=4))
    records = [without_speed(one.advance(1)) for one in (whole, parts)]
    assert records[0] == pytest.approx(records[1], rel=1e-5)
    assert torch.allclose(weights(whole.network), weights(parts.network), atol=1e-6)


def test_a_clipped_gradient_has_the_norm_asked_for(sets):
    how = {"global_batch_size": 90, "epochs": 1, "optimizer": optimizer(), "schedule": CONSTANT}
    one = trainer(sets, recipe(**how, clip_norm=0.01))
    before = weights(one.network)
    one.advance(1)
    assert (weights(one.network) - before).norm() == pytest.approx(0.1 * 0.01, rel=1e-3)


def test_a_rate_per_depth_group(sets):
    """With SGD a step is rate times gradient: the groups' steps differ by the decay."""
    how = {"global_batch_size": 90, "epochs": 1, "schedule": CONSTANT}
    moved = []
    for decay in (1.0, 0.1):
        one = trainer(sets, recipe(**how, optimizer=optimizer(layer_decay=decay)))
        before = {name: p.detach().clone() for name, p in one.network.named_parameters()}
        one.advance(1)
        moved.append({n: p.detach() - before[n] for n, p in one.network.named_parameters()})
    ratios = {n: (moved[1][n].norm() / moved[0][n].norm()).item() for n in moved[0]}
    assert ratios["head.weight"] == pytest.approx(1.0, rel=1e-4)
    found = [round(math.log10(1 / ratio)) for n, ratio in ratios.items() if n.endswith("weight")]
    assert found == sorted(found, reverse=True)
    assert found[-1] == 0
    assert found[0] >= 3


def test_the_learning_rate_follows_the_schedule(sets):
    how = recipe(epochs=3, schedule={"name": "cosine", "warmup_epochs": 1})
    one = trainer(sets, how)
    rates = [one.advance(ALL_STEPS)["lr"] for _ in range(3)]
    steps = 6  # per epoch, of 18 in all
    expected = [how.optimizer.lr] + [
        how.optimizer.lr * 0.5 * (1 + math.cos(math.pi * (step - steps) / (2 * steps)))
        for step in (11, 17)
    ]
    assert rates == pytest.approx(expected)


def test_steps_at_given_rates(sets):
    """What the learning-rate range test does: any rate, any loss, epoch after epoch."""
    one = trainer(sets, recipe(optimizer=optimizer()))
    losses = [one.step_at(1e-9) for _ in range(8)]
    assert losses[:6] != losses[2:]
    assert all(math.isfinite(loss) for loss in losses)
    for _ in range(20):
        loss = one.step_at(1e20)
    assert not math.isfinite(loss)


def test_the_progress_within_an_epoch(sets):
    one = trainer(sets, recipe())
    assert one.epoch_progress().loss is None
    assert one.advance(4) is None
    epoch_progress = one.epoch_progress()
    assert (epoch_progress.epoch, epoch_progress.images, epoch_progress.of_images) == (1, 60, 90)
    assert epoch_progress.loss == pytest.approx(math.log(3), abs=0.5)
    assert one.advance(4)["epoch"] == 1
    assert one.epoch_progress().epoch == 2
    assert one.agree(3, 5) == (3, 5)


@pytest.mark.parametrize("rows", [7, 512])
def test_validation_figures_recomputed(sets, monkeypatch, rows):
    monkeypatch.setattr("pipeline.vision.training.trainer._MOST_VALIDATION_ROWS", rows)
    one = trainer(sets, recipe())
    record = one.advance(ALL_STEPS)
    images, labels = pixels_of(ImageSet.open(sets[1]))
    with torch.inference_mode():
        logits = one.network.eval()(images)
    right = logits.argmax(1) == labels
    recalls = [right[labels == label].float().mean().item() for label in range(3)]
    assert record["val_loss"] == pytest.approx(functional.cross_entropy(logits, labels).item())
    assert record["val_accuracy"] == pytest.approx(right.float().mean().item())
    assert record["val_balanced_accuracy"] == pytest.approx(sum(recalls) / 3)
    assert record["val_macro_f1"] == pytest.approx(
        f1_score(labels, logits.argmax(1), average="macro")
    )
    assert record["val_predicted_classes"] == len(logits.argmax(1).unique())


def test_averaged_weights_are_judged_and_kept(sets):
    how = recipe(epochs=2, ema_decay=0.9)
    one, plain = trainer(sets, how), trainer(sets, recipe(epochs=2))
    records = [[t.advance(ALL_STEPS) for _ in range(2)] for t in (one, plain)]
    # The same training, seen through an average: only validation differs.
    assert records[0][1]["train_loss"] == records[1][1]["train_loss"]
    assert records[0][1]["val_loss"] != records[1][1]["val_loss"]
    kept = build_network("lenet5", {}, (1, 16, 16), 3)
    kept.load_state_dict(one.best_weights)
    images, labels = pixels_of(ImageSet.open(sets[1]))
    with torch.inference_mode():
        loss = functional.cross_entropy(kept.eval()(images), labels).item()
    assert loss == pytest.approx(records[0][one.state.best_epoch - 1]["val_loss"], rel=1e-5)


def test_16_bit_pixels_train_as_their_8_bit_images(sets, tmp_path):
    one = trainer(sets, recipe())
    for name, (images, labels) in (("train", bars(90)), ("val", bars(30, seed=1))):
        deep = images.astype("uint16") * 257  # 255 becomes 65535
        write_set(tmp_path / name, deep, labels, BARS)
    other = trainer((tmp_path / "train", tmp_path / "val"), recipe())
    found, expected = other.advance(ALL_STEPS), one.advance(ALL_STEPS)
    assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)
