"""When the workers of a training look up from it, by the clock of the first one."""

import time
from collections.abc import Callable
from enum import IntEnum

_LOOK_S = 1.0
# A checkpoint that takes long is taken seldom: this share of the time is the most they may cost.
_MOST_SAVING = 0.05


class Decision(IntEnum):
    """What all workers do after they have looked up."""

    GO_ON = 0
    SAVE = 1
    STOP = 2


class SyncSchedule:
    """Plans the next look about a second ahead, and checkpoints by their interval."""

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the clock.

        Args:
            interval_s: between two checkpoints, at least.
            clock: seconds.
        """
        self._interval_s, self._clock = interval_s, clock
        self._looked_s = self._saved_s = clock()
        self._steps = 1

    def decide(self, stop: bool) -> tuple[Decision, int]:
        """Say what to do now, and after how many steps to look up again (at least 1)."""
        now_s = self._clock()
        self._steps = self._next_steps(now_s - self._looked_s)
        self._looked_s = now_s
        if stop:
            return Decision.STOP, self._steps
        due = now_s - self._saved_s >= self._interval_s
        return Decision.SAVE if due else Decision.GO_ON, self._steps

    def _next_steps(self, seconds: float) -> int:
        """Scale the steps of the last stretch, which took `seconds`, to about a second.

        At most twice as many: a stretch that the end of an epoch cut short says little.
        """
        scale = min(_LOOK_S / max(seconds, 1e-9), 2.0)
        return min(max(1, round(self._steps * scale)), 2**31)

    def saved(self, seconds: float) -> None:
        """Take note of a checkpoint that took `seconds`."""
        self._saved_s = self._looked_s = self._clock()
        self._interval_s = max(self._interval_s, seconds / _MOST_SAVING)
