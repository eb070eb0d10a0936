"""The confusion matrix, from 2 classes to hundreds."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from pipeline.evaluation.plots._style import PAGE_WIDTH, new_figure
from pipeline.evaluation.plots._text import all_named, width_of

# Beyond it a cell is too small for its number.
_MOST_NUMBERED_CLASSES = 20
_NAME_WIDTH = 120.0  # points
_POINTS = 72.0  # per inch
_BAR_WIDTH, _LABEL_HEIGHT = 1.1, 0.3  # inches
_LEAST_SIDE, _MOST_FOR_LYING = 2.2, 5.0  # inches


def draw_confusion(confusion: npt.NDArray[np.int64], classes: Sequence[str]) -> Figure:
    """Colour each cell by its share of the true class; number it where there is room.

    Where not every class has room for its name, every second has, or every third.

    Args:
        confusion: k x k counts, rows are true classes.
        classes: k names.
    """
    k = len(classes)
    size = 9.0 if k <= _MOST_NUMBERED_CLASSES else 7.0
    names = all_named(classes, _NAME_WIDTH, size)
    longest = max(width_of(name, size) for name in names) / _POINTS
    beside = longest + _LABEL_HEIGHT
    lying = 1.15 * longest * k  # where names lie side by side
    wished = max(0.38 * k, _LEAST_SIDE, lying if lying < _MOST_FOR_LYING else 0.0)
    side = min(wished, PAGE_WIDTH - _BAR_WIDTH - beside)
    upright = longest > 0.95 * side / k
    beneath = (longest if upright else 0.15) + _LABEL_HEIGHT + 0.2
    figure = new_figure(side + beside + _BAR_WIDTH, side + beneath + 0.1)
    axes = figure.add_subplot()
    support = np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    share = confusion / support
    # The square root lifts rare mistakes out of the white.
    picture = axes.imshow(np.sqrt(share), cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest")
    step = int(np.ceil(1.25 * size * k / (side * _POINTS)))
    shown = range(0, k, step)
    ticks = [names[i] for i in shown]
    axes.set_xticks(shown, ticks, rotation=90 if upright else 0, fontsize=size, parse_math=False)
    axes.set_yticks(shown, ticks, fontsize=size, parse_math=False)
    left_out = "" if step == 1 else f" (one in {step} is named)"
    axes.set_xlabel("predicted" + left_out)
    axes.set_ylabel("true" + left_out)
    axes.tick_params(length=0 if step == 1 else 2)
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
    bar = figure.colorbar(picture, ax=axes, shrink=0.8, pad=0.02, label="share of the true class")
    ticks_at = [0.0, 0.01, 0.1, 0.5, 1.0]
    bar.set_ticks([float(np.sqrt(at)) for at in ticks_at], labels=[f"{at:.0%}" for at in ticks_at])
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return figure
