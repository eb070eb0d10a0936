"""What calls of `convoy retrain` have found and done, over time."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from pipeline.evaluation.metrics.table import metric_named
from pipeline.evaluation.plots._style import BLUE, GREEN, GREY, ORANGE, PAGE_WIDTH, calm, new_figure
from pipeline.evaluation.retraining.history import TITLES, champions
from pipeline.evaluation.retraining.record import Call

RED = "#D55E00"  # also of Okabe and Ito
_COLOURS = {"promoted": GREEN, "refused": ORANGE, "held": BLUE, "nothing": GREY, "failed": RED}
_MARKERS = {"promoted": "o", "refused": "v", "held": "s", "nothing": "|", "failed": "X"}
_CLASSES = 20  # with a line of their own; else only the largest and the smallest
_NAME = 24  # characters


def draw_history(calls: Sequence[Call]) -> Figure:
    """Draw the champion's metric, the candidates, the images, drift and decisions by time.

    Args:
        calls: the oldest first, at least one.
    """
    figure = new_figure(PAGE_WIDTH, 9.0)
    grid = figure.subplots(4, 1, sharex=True, gridspec_kw={"height_ratios": [3, 2, 2, 1.2]})
    metric, images, drift, decisions = grid
    _draw_metric(metric, calls)
    _draw_images(images, calls)
    _draw_drift(drift, calls)
    _draw_decisions(decisions, calls)
    locator: Any = AutoDateLocator(minticks=3, maxticks=9)  # type: ignore[no-untyped-call]
    decisions.xaxis.set_major_locator(locator)
    decisions.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    return figure


def _draw_metric(axes: Axes, calls: Sequence[Call]) -> None:
    known = [(call.ended, figure) for call, _, figure in champions(calls) if figure]
    measured = [(at, one.value, one.ci95) for at, one in known if one.value is not None]
    if measured:
        at = [_number(time) for time, _, _ in measured]
        axes.fill_between(
            at,
            [ci95[0] for _, _, ci95 in measured],
            [ci95[1] for _, _, ci95 in measured],
            step="post",
            color=GREEN,
            alpha=0.18,
            linewidth=0,
            label="its 95 % interval",
        )
        axes.step(
            at, [value for _, value, _ in measured], where="post", color=GREEN, label="champion"
        )
    for outcome in ("promoted", "refused", "failed"):
        judged = [
            (call.ended, call.candidate.value.value)
            for call in calls
            if call.outcome == outcome and call.candidate and call.candidate.value
            if call.candidate.value.value is not None
        ]
        if judged:
            axes.scatter(
                [_number(time) for time, _ in judged],
                [value for _, value in judged],
                color=_COLOURS[outcome],
                marker=_MARKERS[outcome],
                s=22,
                zorder=3,
                label=f"candidate, {TITLES[outcome]}",
            )
    name = next((call.metric for call in reversed(calls) if call.metric), None)
    axes.set_ylabel(f"{metric_named(name).title if name else 'metric'}, test images")
    _legend(axes)


def _draw_images(axes: Axes, calls: Sequence[Call]) -> None:
    seen = [call for call in calls if call.changes]
    at = [_number(call.ended) for call in seen]
    counts = [call.changes.classes for call in seen if call.changes]
    if not counts or not counts[-1]:
        return
    axes.plot(at, [sum(one.values()) for one in counts], color="black", label="all images")
    last = counts[-1]
    ends = {max(last, key=last.__getitem__): BLUE, min(last, key=last.__getitem__): ORANGE}
    names = sorted({name for one in counts for name in one})
    for name in names if len(names) <= _CLASSES else ends:
        series = [one.get(name, np.nan) for one in counts]
        if name in ends:
            text = name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
            axes.plot(at, series, linewidth=1.2, color=ends[name], label=f"class {text}")
        else:
            axes.plot(at, series, linewidth=0.6, color=GREY, alpha=0.6)
    _log_scale(axes)
    axes.set_ylabel("images")
    _legend(axes)


def _draw_drift(axes: Axes, calls: Sequence[Call]) -> None:
    tested = [call for call in calls if call.drift and call.drift.classifier_p is not None]
    at = [_number(call.ended) for call in tested]
    for label, key, colour in (
        ("classifier", "classifier_p", BLUE),
        ("kernel", "kernel_p", ORANGE),
        ("predicted classes", "class_p", GREY),
    ):
        axes.plot(
            at,
            [getattr(call.drift, key) for call in tested],
            marker=".",
            linewidth=0.8,
            color=colour,
            label=label,
        )
    if tested and tested[-1].drift:
        level = tested[-1].drift.level
        axes.axhline(level, color=RED, linewidth=1, linestyle="--", label=f"alarm below {level:g}")
    _log_scale(axes)
    axes.set_ylim(5e-4, 1.5)
    axes.set_ylabel("p-value of drift")
    _legend(axes)


def _draw_decisions(axes: Axes, calls: Sequence[Call]) -> None:
    order = list(TITLES)[::-1]
    for outcome in order:
        at = [_number(call.ended) for call in calls if call.outcome == outcome]
        axes.scatter(
            at,
            np.full(len(at), order.index(outcome)),
            color=_COLOURS[outcome],
            marker=_MARKERS[outcome],
            s=22,
        )
    axes.set_yticks(range(len(order)), [TITLES[outcome] for outcome in order], fontsize=8)
    axes.set_ylim(-0.6, len(order) - 0.4)
    calm(axes)


def _legend(axes: Axes) -> None:
    calm(axes)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=7, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))


def _log_scale(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")  # plain digits, not a formula
    axes.yaxis.set_minor_formatter(NullFormatter())


def _number(time: datetime) -> float:
    """Return days since 1970, as matplotlib counts them."""
    return time.timestamp() / 86400
