"""Learning rates as a pure function of the step."""

import math

from pipeline.params.choices.training import (
    ConstantRate,
    CosineRate,
    OneCycleRate,
    Schedule,
    StepRate,
)

# Of one cycle, as in torch: what the peak is divided by to give the first rate, and the first
# rate to give the last.
_RISE_BY = 25.0
_FALL_BY = 1e4


def learning_rate(
    step: int, *, steps: int, steps_per_epoch: int, schedule: Schedule, peak: float
) -> float:
    """Return the rate of one step.

    Args:
        step: from 0.
        steps: of the whole training.
        steps_per_epoch: what one epoch of warm-up takes.
        schedule: from params.yaml.
        peak: the highest rate.
    """
    return peak * multiplier(step, steps=steps, steps_per_epoch=steps_per_epoch, schedule=schedule)


def multiplier(step: int, *, steps: int, steps_per_epoch: int, schedule: Schedule) -> float:
    """Return the share of the peak rate that one step (from 0) takes, in (0, 1].

    But for 'one_cycle' it rises linearly over the warm-up (its first step of n takes 1 / n).
    """
    if isinstance(schedule, OneCycleRate):
        return _one_cycle(step, steps, schedule.rise)
    warmup = round(schedule.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return (step + 1) / warmup
    match schedule:
        case ConstantRate():
            return 1.0
        case CosineRate():
            # Without restarts (Loshchilov and Hutter 2017); it would be 0 at `steps`.
            return _half_cosine(1.0, 0.0, (step - warmup) / max(steps - warmup, 1))
        case StepRate(milestones=milestones, factor=factor):
            return factor ** sum(step >= round(share * steps) for share in milestones)


def _one_cycle(step: int, steps: int, rise: float) -> float:
    """Rise and fall along half cosines (Smith and Topin 2018, in the form that torch gives it)."""
    top = rise * steps - 1
    first = 1 / _RISE_BY
    if step < top:
        return _half_cosine(first, 1.0, step / top)
    return _half_cosine(1.0, first / _FALL_BY, (step - top) / (steps - 1 - top))


def _half_cosine(start: float, end: float, share: float) -> float:
    """Go from `start` to `end` as `share` goes from 0 to 1."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))
