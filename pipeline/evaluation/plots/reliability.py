"""Reliability diagrams: what confidence is worth."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.evaluation.metrics.intervals import wilson
from pipeline.evaluation.metrics.scores import (
    Answers,
    Reliability,
    expected_calibration_error,
    reliability,
)
from pipeline.evaluation.plots._style import BLUE, GREY, ORANGE, calm, new_figure


@dataclass(frozen=True)
class Series:
    """One model in the diagram.

    Attributes:
        name: for the legend.
        bins: what it is made of; all series have as many bins.
        colour: of points and bars.
        marker: of the points, as matplotlib spells it.
    """

    name: str
    bins: Reliability
    colour: str
    marker: str


def tempered_series(
    untempered: Answers, shipped: Answers, temperature: float, bins: int
) -> list[Series]:
    """Describe how far a model's confidence can be trusted, without and with its temperature.

    Args:
        untempered: its answers without.
        shipped: its answers with; the same, where the temperature is 1.
        temperature: of the model.
        bins: of confidence.
    """
    series = [_series("without a temperature", untempered, bins, BLUE, "o")]
    if temperature != 1.0:
        name = f"at temperature {temperature:.2f}"
        series.append(_series(name, shipped, bins, ORANGE, "s"))
    return series


def _series(name: str, given: Answers, bins: int, colour: str, marker: str) -> Series:
    error = expected_calibration_error(given, bins)
    return Series(f"{name}, error {error:.3f}", reliability(given, bins), colour, marker)


def draw_reliability(series: Sequence[Series]) -> Figure:
    """Draw accuracy against confidence, and how many images stand behind each point."""
    figure = new_figure(5.4, 5.4)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    top.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="perfectly calibrated")
    for one in series:
        _points(top, one)
        count = len(one.bins.images)
        edges = np.linspace(0, 1, count + 1)
        bottom.stairs(one.bins.images, edges, color=one.colour, fill=True, alpha=0.25)
        bottom.stairs(one.bins.images, edges, color=one.colour, linewidth=1.2)
    top.set_ylabel("share that is right")
    top.set_ylim(0, 1.03)
    figure.legend(*top.get_legend_handles_labels(), loc="outside upper left", frameon=False)
    bottom.set_ylabel("images")
    bottom.set_xlabel("confidence")
    bottom.set_xlim(0, 1)
    for axes in (top, bottom):
        calm(axes)
    return figure


def _points(axes: Axes, one: Series) -> None:
    """Draw the bins that hold images, with Wilson's interval of the share that is right."""
    full = one.bins.images > 0
    images, accuracy = one.bins.images[full], one.bins.accuracy[full]
    low, high = wilson(accuracy * images, images).T
    axes.errorbar(
        one.bins.confidence[full],
        accuracy,
        yerr=[accuracy - low, high - accuracy],
        color=one.colour,
        fmt=one.marker,
        markersize=4.5,
        linewidth=1.2,
        label=one.name,
    )
