"""Learning rates as a pure function of the step."""

import math
from typing import Literal


def learning_rate(
    step: int,
    *,
    steps: int,
    warmup_steps: int,
    peak: float,
    name: Literal["constant", "cosine"],
) -> float:
    """Return the rate of one step, counted from 0.

    It rises linearly over `warmup_steps` (the first step gets peak / warmup_steps), then stays
    ('constant') or falls along half a cosine towards 0 at `steps` ('cosine', Loshchilov and
    Hutter 2017, without restarts).
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    if name == "constant":
        return peak
    share = (step - warmup_steps) / max(steps - warmup_steps, 1)
    return peak * 0.5 * (1 + math.cos(math.pi * share))
