"""Lines: learning curves and the ladder of views."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.evaluation.plots._style import BLUE, GREY, ORANGE, calm, new_figure


def draw_learning_curves(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Draw loss and validation accuracy by epoch, one column per training.

    Args:
        histories: name of the training to its epochs, each with epoch, train_loss, val_loss and
            val_accuracy; the best epoch, by validation loss, is marked.
    """
    figure = new_figure(4.2 * len(histories), 4.8)
    grid = figure.subplots(2, len(histories), sharex="col", squeeze=False)
    for column, (name, epochs) in enumerate(histories.items()):
        loss, accuracy = grid[:, column]
        at = [row["epoch"] for row in epochs]
        validation = [row["val_loss"] for row in epochs]
        loss.plot(at, [row["train_loss"] for row in epochs], color=GREY, label="training")
        loss.plot(at, validation, color=BLUE, label="validation")
        loss.set_title(name, loc="left", fontsize=10, parse_math=False)
        loss.set_ylabel("loss, nats")
        loss.set_ylim(bottom=0)
        accuracy.plot(at, [row["val_accuracy"] for row in epochs], color=BLUE)
        accuracy.set_ylabel("validation accuracy")
        accuracy.set_xlabel("epoch")
        accuracy.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        best = at[int(np.argmin(validation))]
        for axes in (loss, accuracy):
            axes.axvline(best, color=ORANGE, linewidth=1, linestyle="--", label="lowest loss")
            calm(axes)
        loss.legend(frameon=False, fontsize=8)
    return figure


def draw_ladder(rungs: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw macro-F1 and negative log-likelihood as views are added, with 95 % intervals.

    The dashed line is the model without views.

    Args:
        rungs: as in tta.json: each with views (their names), test (the metric block) and gain.
    """
    figure = new_figure(8.4, 3.0 + 0.1 * len(rungs))
    at = np.arange(1, len(rungs) + 1)
    names = [f"{i}: {rung['views'][-1]}" for i, rung in enumerate(rungs, 1)]
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (key, title) in zip(
        panels, (("macro_f1", "macro-F1"), ("nll", "negative log-likelihood, nats")), strict=True
    ):
        value = np.array([rung["test"][key]["value"] for rung in rungs])
        low, high = np.array([rung["test"][key]["ci95"] for rung in rungs]).T
        arms = [value - low, high - value]
        axes.errorbar(value, at, xerr=arms, color=BLUE, fmt="o", markersize=4, linewidth=1.2)
        plain = value[0] - rungs[0]["gain"][key]["value"]
        axes.axvline(plain, color=GREY, linewidth=1, linestyle="--")
        axes.set_title(title, loc="left", fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
        calm(axes)
    panels[0].set_yticks(at, names, fontsize=8)
    panels[0].set_ylim(len(rungs) + 0.5, 0.5)
    panels[0].set_ylabel("average of the views down to")
    return figure
