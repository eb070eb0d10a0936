"""Learning curves."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.evaluation.plots._style import BLUE, GREY, ORANGE, calm, new_figure
from pipeline.evaluation.reports.history import Epoch


def draw_learning_curves(histories: Mapping[str, Sequence[Epoch]]) -> Figure:
    """Draw loss and validation accuracy by epoch, one column per training.

    Args:
        histories: name of the training to its epochs.
    """
    figure = new_figure(4.2 * len(histories), 4.8)
    grid = figure.subplots(2, len(histories), sharex="col", squeeze=False)
    for column, (name, epochs) in enumerate(histories.items()):
        loss, accuracy = grid[:, column]
        at = [row.epoch for row in epochs]
        validation = [row.val_loss for row in epochs]
        loss.plot(at, [row.train_loss for row in epochs], color=GREY, label="training")
        loss.plot(at, validation, color=BLUE, label="validation")
        loss.set_title(name, loc="left", fontsize=10, parse_math=False)
        loss.set_ylabel("loss, nats")
        loss.set_ylim(bottom=0)
        accuracy.plot(at, [row.val_accuracy for row in epochs], color=BLUE)
        accuracy.set_ylabel("validation accuracy")
        accuracy.set_xlabel("epoch")
        accuracy.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        for axes in (loss, accuracy):
            for epoch in (row.epoch for row in epochs if row.kept):
                axes.axvline(epoch, color=ORANGE, linewidth=1, linestyle="--", label="kept")
            calm(axes)
        loss.legend(frameon=False, fontsize=8)
    return figure
