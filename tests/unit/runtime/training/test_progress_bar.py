import contextlib
import io

from pipeline.runtime.training import progress_bar
from pipeline.runtime.training.progress_bar import ProgressBar
from pipeline.vision.training.training_state import EpochProgress


def record(epoch):
    return {
        "epoch": epoch,
        "train_loss": 0.5,
        "val_loss": 0.25,
        "val_accuracy": 0.875,
        "images_per_s": 1234.4,
    }


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_lines_where_nobody_watches(capsys):
    bar = ProgressBar("train", 3, 100)
    bar.line("1 worker")
    bar.epoch_progress(EpochProgress(1, 50, 100, 0.7))
    for epoch in (1, 2, 3):
        bar.record(record(epoch))
    bar.close()
    figures = "loss 0.500, val_loss 0.250, val_acc 0.875, 1234 img/s"
    # Few lines: the second epoch follows within ten seconds.
    assert capsys.readouterr().err.splitlines() == [
        "train: 1 worker",
        f"train: epoch 1/3, {figures}",
        f"train: epoch 3/3, {figures}",
    ]


def test_epochs_that_are_read_again_after_a_restart_are_not_shown_again(capsys, monkeypatch):
    monkeypatch.setattr(progress_bar, "_LINE_INTERVAL_S", -1.0)
    bar = ProgressBar("train", 9, 100)
    for epoch in (1, 2, 1, 2, 3):
        bar.record(record(epoch))
    bar.close()
    shown = [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert shown == ["train: epoch 1/9", "train: epoch 2/9", "train: epoch 3/9"]


def test_one_bar_over_all_images():
    with contextlib.redirect_stderr(Terminal()) as terminal:
        draw_one_bar()
    last = terminal.getvalue().split("\r")[-1]
    assert last.startswith("train:  75%")
    assert "150/200" in last
    assert "loss=0.375, val_loss=0.250, val_acc=0.875" in last
    assert "img/s" in last or "s/img" in last


def draw_one_bar():
    bar = ProgressBar("train", 2, 100)
    bar.epoch_progress(EpochProgress(1, 50, 100, 0.75))
    bar.record(record(1))
    bar.epoch_progress(EpochProgress(2, 50, 100, 0.375))
    bar.close()


def test_a_resumed_training_counts_only_its_own_speed():
    with contextlib.redirect_stderr(Terminal()):
        bar = ProgressBar("train", 10, 100)
        bar.record(record(9))
        assert (bar._bar.n, bar._bar.initial) == (900, 900)
        bar.epoch_progress(EpochProgress(3, 0, 100, None))  # a restart from an older checkpoint
        assert bar._bar.n == 200
        bar.close()
