"""Waiting for a state, where a test would otherwise wait for some seconds."""

import time
from collections.abc import Callable

_POLL_S = 0.01


def wait_until(true: Callable[[], object], patience_s: float = 120.0, what: str = "") -> None:
    """Return as soon as `true()` holds.

    Raises:
        AssertionError: it did not hold for `patience_s`; says `what` it would have been.
    """
    deadline_s = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline_s, f"waited in vain for {patience_s:g} s {what}"
        time.sleep(_POLL_S)
