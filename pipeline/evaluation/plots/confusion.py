"""The confusion matrix, from 2 classes to hundreds."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from pipeline.evaluation.plots._style import new_figure
from pipeline.evaluation.plots._text import named

# Beyond these a cell is too small for its number, or an axis too short for every name.
_MOST_NUMBERED_CLASSES = 20
_MOST_NAMED_CLASSES = 60


def draw_confusion(confusion: npt.NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Colour each cell by its share of the true class; number it where there is room.

    Args:
        confusion: k x k counts, rows are true classes.
        classes: k names.
    """
    k = len(classes)
    side = float(np.clip(3.2 + 0.32 * k, 4.2, 10.5))
    figure = new_figure(side + 0.9, side)
    axes = figure.add_subplot()
    support = np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    share = confusion / support
    # The square root lifts rare mistakes out of the white.
    picture = axes.imshow(np.sqrt(share), cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest")
    step = 1 if k <= _MOST_NAMED_CLASSES else int(np.ceil(k / _MOST_NAMED_CLASSES))
    shown = range(0, k, step)
    names = [named(classes[i]) for i in shown]
    size = float(np.clip(420 / k, 5.0, 9.0))
    crowded = len(names) * max(len(name) for name in names) > 40
    axes.set_xticks(shown, names, rotation=90 if crowded else 0, fontsize=size, parse_math=False)
    axes.set_yticks(shown, names, fontsize=size, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if k <= _MOST_NUMBERED_CLASSES:
        for row, column in np.argwhere(confusion > 0):
            axes.text(
                column,
                row,
                f"{confusion[row, column]}",
                ha="center",
                va="center",
                fontsize=size,
                color="white" if share[row, column] > 0.3 else "#222222",
            )
    bar = figure.colorbar(picture, ax=axes, shrink=0.6, pad=0.02, label="share of the true class")
    ticks = [0.0, 0.01, 0.1, 0.5, 1.0]
    bar.set_ticks([float(np.sqrt(tick)) for tick in ticks], labels=[f"{t:.0%}" for t in ticks])
    bar.outline.set_visible(False)
    return figure
