"""How a training ends: resumed, at its best epoch, early, or by an error."""

import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.training.checkpoint import BEST_FILE, is_whole
from pipeline.vision.training.training_state import read_training_state
from tests.jobs import RECIPE
from tests.unit.vision.training.trainers import (
    ALL_STEPS,
    CONSTANT,
    optimizer,
    recipe,
    trainer,
    weights,
    without_speed,
)

EVERYTHING = {
    "mixup_alpha": 0.3,
    "cutmix_alpha": 0.5,
    "augment": [{"hflip": {"p": 0.5}}, {"noise": {"std": 0.1}}],
    "ema_decay": 0.9,
    "clip_norm": 1.0,
    "accumulate": 2,
    "loss": {"name": "logit_adjusted", "tau": 1.0, "start": 0.5},
    "sampler": {"name": "balanced", "start": 0.5},
}


@pytest.mark.parametrize(
    ("changes", "network", "arithmetic"),
    [
        ({"optimizer": optimizer("sgd", 0.01, 0.9, 0.01)}, "lenet5", Arithmetic()),
        ({"optimizer": optimizer("sgd", 0.01)}, "lenet5", Arithmetic()),
        # dropout and batch norms, whose state must survive too
        ({"mixup_alpha": 0.3}, "mobilenet_v3_small", Arithmetic(memory_format="channels_last")),
        (EVERYTHING, "resnet20", Arithmetic(memory_format="channels_last")),
        (EVERYTHING, "resnet20", Arithmetic("bf16")),
        ({"trainable": "gradual", "weights": "elsewhere"}, "resnet20", Arithmetic()),
        (
            {"trainable": "head", "weights": "elsewhere", "ema_decay": 0.9},
            "resnet20",
            Arithmetic(),
        ),
    ],
)
@pytest.mark.parametrize("stops", [(6,), (2,), (6, 4)])
def test_a_resumed_training_ends_as_an_uninterrupted_one(
    sets, tmp_path, changes, network, arithmetic, stops
):
    """Stopped after an epoch, within one, and within the one after."""
    how = recipe(epochs=3, **changes)
    whole = trainer(sets, how, network, arithmetic)
    records = [without_speed(whole.advance(ALL_STEPS)) for _ in range(3)]
    part = trainer(sets, how, network, arithmetic)
    for number, steps in enumerate(stops):
        part.advance(steps)
        part.save(tmp_path / str(number))
        assert is_whole(tmp_path / str(number))
        part.advance(1)  # is lost
        part = trainer(sets, how, network, arithmetic)
        part.restore(tmp_path / str(number))
    while not part.done:
        part.advance(ALL_STEPS)
    assert [without_speed(record) for record in part.state.history] == records
    assert torch.equal(weights(part.network), weights(whole.network))
    assert all(torch.equal(part.best_weights[k], v) for k, v in whole.best_weights.items())


def test_it_learns_and_keeps_the_best(sets, tmp_path):
    stopping = RECIPE.early_stopping.model_copy(update={"metric": "loss"})
    one = trainer(sets, recipe(epochs=15, early_stopping=stopping))
    while not one.done:
        one.advance(ALL_STEPS)
    losses = [record["val_loss"] for record in one.state.history]
    assert -one.state.best_score == min(losses) < 0.5 * losses[0]
    assert one.state.best_epoch == losses.index(min(losses)) + 1
    one.save(tmp_path)
    assert read_training_state(tmp_path) == one.state
    assert (tmp_path / BEST_FILE).exists()


def test_patience_ends_a_training_that_gains_less_than_min_delta(sets):
    stopping = {"metric": "loss", "patience": 2, "min_delta": 1e9, "keep": "best"}
    one = trainer(sets, recipe(epochs=50, early_stopping=stopping))
    while not one.done:
        one.advance(ALL_STEPS)
    # The first epoch gains (the best was infinite), the next two do not gain enough.
    assert one.state.epochs_done == 3
    # The best weights are kept even so.
    losses = [record["val_loss"] for record in one.state.history]
    assert -one.state.best_score == min(losses)


@pytest.mark.parametrize("kind", ["loss", "sampler"])
def test_weights_from_before_a_late_change_are_not_kept(sets, kind):
    late = {
        "loss": {"name": "logit_adjusted", "tau": 1.0, "start": 0.5},
        "sampler": {"name": "balanced", "start": 0.5},
    }
    # The rate is next to nothing by then: validation gets no better.
    steps = {"name": "step", "warmup_epochs": 0, "milestones": [0.3], "factor": 1e-9}
    how = recipe(epochs=6, schedule=steps, **{kind: late[kind]})
    one = trainer(sets, how)
    while not one.done:
        one.advance(ALL_STEPS)
    assert one.state.best_epoch >= 4


def test_a_last_step_that_diverges_is_noticed(sets):
    """The losses of an epoch are those before its steps; only validation sees the last one."""
    how = recipe(optimizer=optimizer(lr=1e38), schedule=CONSTANT, global_batch_size=90)
    with pytest.raises(PipelineError, match=r"validation loss is nan at epoch 1 \(of 1 steps"):
        trainer(sets, how).advance(1)


def test_a_loss_that_is_not_finite_stops_names_the_step_and_is_not_saved(sets, tmp_path):
    one = trainer(sets, recipe(optimizer=optimizer(lr=1e30), schedule=CONSTANT))
    message = r"training loss is (nan|inf) at epoch 1, step [2-6] \(of 6 steps"
    with pytest.raises(PipelineError, match=message):
        one.advance(ALL_STEPS)
    with pytest.raises(PipelineError, match=message):
        one.save(tmp_path / "bad")
    assert not (tmp_path / "bad").exists()


def test_a_batch_norm_with_nothing_to_average(sets):
    how = recipe(global_batch_size=1)
    with pytest.raises(PipelineError, match="a batch norm got a single value per channel"):
        trainer(sets, how, "mobilenet_v3_small").advance(1)


def test_too_little_memory_is_an_error_with_a_remedy(sets, monkeypatch):
    def refuse(_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    one = trainer(sets, recipe())
    monkeypatch.setattr(one.network, "forward", refuse)
    with pytest.raises(PipelineError, match=r"too little memory for a step \(CUDA out of memory\)"):
        one.advance(1)
