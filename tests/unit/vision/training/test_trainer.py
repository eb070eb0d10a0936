import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from pipeline.errors import PipelineError
from pipeline.params import load_params
from pipeline.vision.networks import build_network
from pipeline.vision.training.batches import Share, training_batches
from pipeline.vision.training.trainer import BEST_FILE, Inputs, Trainer, read_progress
from tests.packed import BARS, bars, write_set

RECIPE = load_params(Path(__file__).parents[4] / "params.yaml").train
CPU = torch.device("cpu")


def recipe(**changes):
    values = RECIPE.model_dump(mode="json") | {"epochs": 4, "global_batch_size": 16} | changes
    return type(RECIPE).model_validate(values, strict=False)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets")
    training = write_set(folder / "train", *bars(90), BARS)
    validation = write_set(folder / "val", *bars(30, seed=1), BARS)
    return Inputs(training, validation, (0.2,), (0.3,))


def trainer(inputs, how, name="lenet5"):
    torch.manual_seed(how.seed)
    return Trainer(build_network(name, {}, (1, 16, 16), 3), inputs, how, Share(), CPU)


def weights(network):
    return torch.cat([value.float().flatten() for value in network.state_dict().values()])


def test_one_sgd_step_recomputed(inputs):
    """One epoch of one step: the loss, the gradient and the update by hand."""
    how = recipe(
        epochs=1,
        global_batch_size=90,
        label_smoothing=0.1,
        optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.5},
        schedule={"name": "constant", "warmup_epochs": 0},
    )
    one = trainer(inputs, how)
    before = {name: p.detach().clone() for name, p in one.network.named_parameters()}
    reference = build_network("lenet5", {}, (1, 16, 16), 3)
    reference.load_state_dict(one.network.state_dict())
    (batch,) = training_batches(
        inputs.images, share=Share(), global_batch_size=90, seed=0, epoch=0, mixup_alpha=0.0
    )
    loss = functional.cross_entropy(
        reference((batch.images - 0.2) / 0.3), batch.targets.argmax(1), label_smoothing=0.1
    )
    loss.backward()
    record = one.run_epoch()
    assert record["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in reference.named_parameters():
        decay = 0.5 if parameter.ndim > 1 else 0.0  # biases do not decay
        expected = before[name] - 0.1 * (parameter.grad + decay * before[name])
        found = dict(one.network.named_parameters())[name]
        assert torch.allclose(found, expected, atol=1e-6), name


def test_validation_figures_recomputed(inputs):
    one = trainer(inputs, recipe())
    record = one.run_epoch()
    validation = inputs.validation
    pixels = torch.from_numpy(validation.gather(range(len(validation)))).permute(0, 3, 1, 2) / 255
    labels = torch.tensor(validation.labels.tolist())
    with torch.inference_mode():
        logits = one.network.eval()((pixels - 0.2) / 0.3)
    right = logits.argmax(1) == labels
    recalls = [right[labels == label].float().mean().item() for label in range(3)]
    assert record["val_loss"] == pytest.approx(functional.cross_entropy(logits, labels).item())
    assert record["val_accuracy"] == pytest.approx(right.float().mean().item())
    assert record["val_balanced_accuracy"] == pytest.approx(sum(recalls) / 3)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(inputs, tmp_path, optimizer):
    settings = {"name": optimizer, "lr": 0.01, "momentum": 0.9, "weight_decay": 0.01}
    # mobilenet has dropout and batch norms, whose state must survive too
    how = recipe(epochs=3, mixup_alpha=0.3, optimizer=settings)
    whole = trainer(inputs, how, "mobilenet_v3_small")
    records = [whole.run_epoch() for _ in range(3)]
    first = trainer(inputs, how, "mobilenet_v3_small")
    first.run_epoch()
    first.save(tmp_path)
    resumed = trainer(inputs, recipe(**how.model_dump(mode="json")), "mobilenet_v3_small")
    resumed.restore(tmp_path)
    assert resumed.progress.epochs_done == 1
    tail = [resumed.run_epoch() for _ in range(2)]
    for expected, found in zip(records[1:], tail, strict=True):
        assert expected.pop("images_per_s") > 0
        assert found.pop("images_per_s") > 0
        assert found == expected
    assert torch.equal(weights(resumed.network), weights(whole.network))
    assert resumed.done


def test_it_learns_and_keeps_the_best(inputs, tmp_path):
    one = trainer(inputs, recipe(epochs=15))
    while not one.done:
        one.run_epoch()
    losses = [record["val_loss"] for record in one.progress.history]
    assert one.progress.best_loss == min(losses) < 0.5 * losses[0]
    assert one.progress.best_epoch == losses.index(min(losses)) + 1
    one.save(tmp_path)
    assert read_progress(tmp_path) == one.progress
    assert (tmp_path / BEST_FILE).exists()


def test_patience_ends_a_training_that_gains_less_than_min_delta(inputs):
    stopping = {"patience": 2, "min_delta": 1e9}
    one = trainer(inputs, recipe(epochs=50, early_stopping=stopping))
    while not one.done:
        one.run_epoch()
    # The first epoch gains (the best was infinite), the next two do not gain enough.
    assert one.progress.epochs_done == 3
    # The best weights are kept even so.
    losses = [record["val_loss"] for record in one.progress.history]
    assert one.progress.best_loss == min(losses)


def test_many_small_gains_add_up_to_one(inputs):
    """Patience counts from the last loss that was beaten by min_delta, not from the last epoch."""
    one = trainer(inputs, recipe(early_stopping={"patience": 3, "min_delta": 0.1}))
    losses = [1.0, 0.95, 0.91, 0.87, 0.85, 0.83, 0.82, 0.81]
    waits = []
    for loss in losses:
        one._take_note({"val_loss": loss})
        waits.append(one.progress.epochs_without_gain)
    assert waits == [0, 1, 2, 0, 1, 2, 3, 4]
    assert one.progress.best_loss == 0.81


def test_a_last_step_that_diverges_is_told_too(inputs):
    """The losses of an epoch are those before its steps; only validation sees the last one."""
    wild = {"name": "sgd", "lr": 1e38, "momentum": 0.0, "weight_decay": 0.0}
    constant = {"name": "constant", "warmup_epochs": 0}
    one = trainer(inputs, recipe(optimizer=wild, schedule=constant, global_batch_size=90))
    with pytest.raises(PipelineError, match=r"validation loss is nan at epoch 1 \(of 1 steps"):
        one.run_epoch()


def test_a_frozen_extractor_stays_as_it_was(inputs):
    one = trainer(inputs, recipe(trainable="head", weights="elsewhere"), "resnet20")
    before = {k: v.clone() for k, v in one.network.extractor.state_dict().items()}
    head = one.network.head.weight.clone()
    one.run_epoch()
    after = one.network.extractor.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not torch.equal(one.network.head.weight, head)


def test_a_loss_that_is_not_finite_stops_and_names_the_step(inputs):
    wild = {"name": "sgd", "lr": 1e30, "momentum": 0.0, "weight_decay": 0.0}
    one = trainer(inputs, recipe(optimizer=wild, schedule={"name": "constant", "warmup_epochs": 0}))
    with pytest.raises(
        PipelineError, match=r"training loss is nan at epoch 1, step \d \(of 6 steps"
    ):
        one.run_epoch()


def test_the_learning_rate_follows_the_schedule(inputs):
    how = recipe(epochs=3, schedule={"name": "cosine", "warmup_epochs": 1})
    one = trainer(inputs, how)
    rates = [one.run_epoch()["lr"] for _ in range(3)]
    steps = 6  # per epoch, of 18 in all
    expected = [how.optimizer.lr] + [
        how.optimizer.lr * 0.5 * (1 + math.cos(math.pi * (step - steps) / (2 * steps)))
        for step in (11, 17)
    ]
    assert rates == pytest.approx(expected)
