"""New images that are unlike the reference, and the p-values of drift over time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from pipeline.evaluation.plots._cells import (
    NOTE_SIZE,
    TITLE_SIZE,
    Cell,
    draw_cells,
    draw_message,
    in_rows,
    text_width,
)
from pipeline.evaluation.plots._style import BLUE, GREEN, GREY, ORANGE, calm, new_figure
from pipeline.evaluation.plots._text import ending, wrapped
from pipeline.evaluation.plots.sheets import Image

_COLUMNS = 8
# Tests that agree lie upon each other: each is smaller than the one before.
_LOOKS = ((BLUE, "o", 8.0), (ORANGE, "s", 5.5), (GREEN, "^", 3.5))


@dataclass(frozen=True)
class StrangeImage:
    """A new image.

    Attributes:
        image: height x width x channels, uint8 or uint16.
        path: of its file.
        given: the class that its label names.
        predicted: the class that the model answers.
        strangeness: see `ClassifierTest`.
    """

    image: Image
    path: str
    given: str
    predicted: str
    strangeness: float


def draw_strangest(strangest: Sequence[StrangeImage], total: int) -> Figure:
    """Draw new images that are unlike the reference.

    Args:
        strangest: those to show, the strangest first.
        total: how many new images there are.
    """
    if not strangest:
        return draw_message("No new images.")
    width = text_width(_COLUMNS)
    cells = []
    for one in strangest:
        lines = [*wrapped(one.given, width, TITLE_SIZE)]
        if one.predicted != one.given:
            lines += wrapped(one.predicted, width, TITLE_SIZE, before="→ ")
        beneath = (f"{one.strangeness:+.2f}", ending(one.path, width, NOTE_SIZE))
        cells.append(Cell(one.image, lines, beneath))
    heading = (
        f"{len(strangest)} of {total} new images, the least like the reference first: label → said"
    )
    return draw_cells(in_rows(cells, _COLUMNS), _COLUMNS, heading)


def draw_p_values(
    times: Sequence[datetime], series: Mapping[str, Sequence[float | None]], level: float
) -> Figure:
    """Draw the p-values of at most three tests over calls, small ones above.

    Args:
        times: of n calls, ascending.
        series: name of the test to n p-values in (0, 1]; None where it had too few images.
        level: a p-value below it is an alarm.
    """
    found = [p for values in series.values() for p in values if p is not None]
    if not found:
        return draw_message("No call had enough new images for a test of drift.")
    figure = new_figure(8.4, 3.2)
    axes = figure.subplots()
    for (name, values), (colour, marker, size) in zip(series.items(), _LOOKS, strict=False):
        there = [(at, p) for at, p in zip(times, values, strict=True) if p is not None]
        at, p = zip(*there, strict=True) if there else ((), ())
        axes.plot(at, p, color=colour, linewidth=0.8, alpha=0.5)
        alarms = [value < level for value in p]
        # Filled where it alarms: seen without colours.
        for alarm in (False, True):
            axes.plot(
                [one for one, is_one in zip(at, alarms, strict=True) if is_one == alarm],
                [one for one, is_one in zip(p, alarms, strict=True) if is_one == alarm],
                linestyle="none",
                color=colour,
                marker=marker,
                markersize=size,
                markerfacecolor=colour if alarm else "white",
            )
        axes.plot([], [], color=colour, marker=marker, markersize=size, label=name)
    axes.axhline(level, color=GREY, linewidth=1, linestyle="--", label=f"alarm below {level:g}")
    if times[0] == times[-1]:
        month = timedelta(days=30)
        # Dates are numbers to the stubs of matplotlib.
        axes.set_xlim(times[0] - month, times[0] + month)  # type: ignore[arg-type]
    axes.tick_params(labelsize=8)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(1.5, min(*found, level) / 2)
    axes.set_ylabel("p-value")
    calm(axes)
    figure.legend(loc="outside upper left", ncols=len(series) + 1, frameon=False, fontsize=8)
    return figure
