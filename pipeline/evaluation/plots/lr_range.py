"""The learning-rate range test."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from pipeline.evaluation.plots._style import BLUE, GREY, ORANGE, calm, new_figure


def draw_lr_range(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    suggestion: float | None,
    title: str,
) -> Figure:
    """Draw the loss against the learning rate, and mark the suggested rate.

    Args:
        rates: rising.
        losses: of each step's batch, nats.
        smoothed: their running average.
        suggestion: a learning rate, or None where there is none.
        title: what was trained.
    """
    figure = new_figure(6.4, 4.0)
    axes = figure.add_subplot()
    axes.plot(rates, losses, color=GREY, linewidth=0.8, alpha=0.7, label="loss of each batch")
    axes.plot(rates, smoothed, color=BLUE, linewidth=1.8, label="smoothed")
    axes.set_xscale("log")
    if suggestion is not None:
        words = f"suggestion: {suggestion:.1g}"
        axes.axvline(suggestion, color=ORANGE, linewidth=1.5, linestyle="--", label=words)
    # Where the loss diverges it may reach any height; the fall is what is to be seen.
    turn = smoothed.index(min(smoothed))
    axes.set_ylim(0, 1.15 * max(*losses[: turn + 1], *smoothed[: turn + 1]))
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss, nats")
    axes.set_title(title, loc="left", fontsize=10, parse_math=False)
    axes.legend(frameon=False, fontsize=8)
    calm(axes)
    return figure
