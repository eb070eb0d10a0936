import pytest

from pipeline.params.choices.training import EarlyStopping
from pipeline.vision.training.training_state import TrainingState


def stopping(metric="loss", min_delta=0.0, keep="best"):
    return EarlyStopping(metric=metric, patience=3, min_delta=min_delta, keep=keep)


def test_many_small_gains_add_up_to_one():
    """Patience counts from the last loss that was beaten by min_delta, not from the last epoch."""
    state, waits = TrainingState(), []
    for loss in [1.0, 0.95, 0.91, 0.87, 0.85, 0.83, 0.82, 0.81]:
        assert state.end_epoch({"val_loss": loss}, stopping(min_delta=0.1), settled=True)
        waits.append(state.epochs_without_gain)
    assert waits == [0, 1, 2, 0, 1, 2, 3, 4]
    assert (state.best_score, state.best_epoch) == (-0.81, 8)


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("loss", [0.5, 0.3, 0.4], 2),
        ("accuracy", [0.5, 0.3, 0.9], 3),
        ("balanced_accuracy", [0.5, 0.5, 0.4], 1),
        ("macro_f1", [0.5, 0.7, 0.6], 2),
    ],
)
def test_the_best_epoch_is_that_of_the_metric(metric, values, best):
    state = TrainingState()
    for value in values:
        record = {"val_loss": 1.0, f"val_{metric}": value}
        state.end_epoch(record, stopping(metric), settled=True)
    assert state.best_epoch == best


def test_of_equal_epochs_the_one_with_the_lower_loss_is_kept():
    state, kept = TrainingState(), []
    for score, loss in [(0.9, 0.5), (0.9, 0.4), (0.9, 0.6), (0.8, 0.1), (0.9, 0.4)]:
        record = {"val_loss": loss, "val_macro_f1": score}
        kept.append(state.end_epoch(record, stopping("macro_f1"), settled=True))
    assert kept == [True, True, False, False, False]
    assert (state.best_epoch, state.best_score, state.best_loss) == (2, 0.9, 0.4)
    assert state.epochs_without_gain == 4  # a lower loss is no gain of the metric
    state.forget_best()
    assert state.end_epoch({"val_loss": 9.0, "val_macro_f1": 0.1}, stopping("macro_f1"), True)


def test_the_last_epoch_is_kept_where_that_is_asked_for():
    state = TrainingState()
    for loss in [0.5, 0.3, 0.4, 0.6]:
        assert state.end_epoch({"val_loss": loss}, stopping(keep="last"), settled=True)
    assert (state.best_epoch, state.best_score, state.epochs_without_gain) == (4, -0.6, 2)


def test_patience_does_not_run_out_before_the_training_has_settled():
    state = TrainingState()
    for _ in range(10):
        state.end_epoch({"val_loss": 1.0}, stopping(), settled=False)
    assert state.epochs_without_gain == 0
    state.end_epoch({"val_loss": 1.0}, stopping(), settled=True)
    assert state.epochs_without_gain == 1


def test_an_epoch_begins_at_its_first_step():
    state = TrainingState(steps_done=7, seconds=3.0)
    state.end_epoch({"val_loss": 1.0}, stopping(), settled=True)
    assert (state.epochs_done, state.steps_done, state.seconds) == (1, 0, 0.0)
