"""What each further view gains, and how many are taken."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from pipeline.evaluation.plots._style import BLUE, GREY, ORANGE, calm, new_figure
from pipeline.evaluation.reports.schema import Figure as Value
from pipeline.evaluation.reports.schema import Gain, MetricInfo, Step

_APART = 0.17  # of a row: how far validation is drawn above its middle, and test below
_CHOSEN = "#fdf1d7"


def draw_views(steps: Sequence[Step], chosen: int, metric: MetricInfo) -> Figure:
    """Draw the gain in the metric that decides, and the images mended and spoiled, step by step.

    What a step costs is its number: so many times an image goes through the network. Seconds
    would draw another picture each time.

    Args:
        steps: as in tta.json.
        chosen: how many views are taken; 0 is the image as it is, the dashed line.
        metric: that decides.
    """
    figure = new_figure(9.0, 1.5 + 0.36 * len(steps))
    gains, changes = figure.subplots(1, 2, sharey=True, width_ratios=[5, 3])
    rows = np.arange(1, len(steps) + 1)
    on_validation = [step.validation for step in steps]
    for blocks, up, colour, marker, name in (
        (on_validation, _APART, BLUE, "o", "validation"),
        (steps, -_APART, ORANGE, "s", "test"),
    ):
        at = rows - up  # rows are counted downwards
        found = [block.gain.figures[metric.name] for block in blocks]
        _draw_gains(gains, found, at, color=colour, marker=marker, label=name)
        _draw_changes(changes, blocks, at, colour)
    as_it_is = "the image as it is" if chosen else "the image as it is, chosen"
    gains.axvline(0, color=GREY, linewidth=1, linestyle="--", label=as_it_is)
    gains.set_title(f"gain in {metric.noun}, with 95 % intervals", loc="left", fontsize=10)
    changes.axvline(0, color=GREY, linewidth=1)
    # Both sides are shown, even where one is empty.
    both = (*steps, *on_validation)
    spoiled = 1.05 * max(1, *(block.spoiled for block in both))
    mended = 1.05 * max(1, *(block.mended for block in both))
    changes.set_xlim(-spoiled, mended)
    changes.set_title("images spoiled (left) and mended", loc="left", fontsize=10)
    for axes in (gains, changes):
        calm(axes)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    _name_steps(gains, [step.views[-1] for step in steps], chosen)
    if chosen:
        span = {"color": _CHOSEN, "linewidth": 0, "zorder": 0}
        gains.axhspan(chosen - 0.5, chosen + 0.5, label="chosen", **span)
        changes.axhspan(chosen - 0.5, chosen + 0.5, **span)
    figure.legend(loc="outside upper right", ncols=4, frameon=False, fontsize=9)
    return figure


def _name_steps(axes: Axes, views: Sequence[str], chosen: int) -> None:
    names = [f"{view}   {row}" for row, view in enumerate(views, 1)]
    axes.set_yticks(np.arange(1, len(views) + 1), names, fontsize=9)
    axes.set_ylim(len(views) + 0.5, 0.5)
    if chosen:
        axes.get_yticklabels()[chosen - 1].set_fontweight("bold")
    axes.annotate(
        "view added, passes",
        xy=(0, 1),
        xytext=(-5, 6),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="right",
        fontsize=9,
        color=GREY,
    )


def _draw_gains(
    axes: Axes, found: Sequence[Value], at: Any, *, color: str, marker: str, label: str
) -> None:
    """Draw a point and its interval per step."""
    value = np.array([figure.value for figure in found])
    low, high = np.array([figure.ci95 for figure in found]).T
    arms = [value - low, high - value]
    axes.errorbar(
        value, at, xerr=arms, color=color, fmt=marker, markersize=5, linewidth=1.4, label=label
    )
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.xaxis.set_major_formatter(FuncFormatter(_signed))


def _signed(gain: float, _: int | None) -> str:
    return f"{gain:+.4g}".replace("-", "\N{MINUS SIGN}") if abs(gain) > 1e-9 else "0"


def _draw_changes(axes: Axes, blocks: Sequence[Gain], at: Any, colour: str) -> None:
    """Draw a bar to the left for the images spoiled, and one to the right for those mended."""
    mended = np.array([block.mended for block in blocks])
    spoiled = np.array([block.spoiled for block in blocks])
    axes.barh(at, mended, height=1.6 * _APART, color=colour)
    axes.barh(at, -spoiled, height=1.6 * _APART, color=colour)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{abs(count):g}"))
