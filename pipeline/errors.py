"""The one kind of error that a user sees."""

from collections.abc import Iterable
from difflib import get_close_matches

# In the environment: the file in which a command leaves the message with which it ends.
MISTAKE = "CONVOY_MISTAKE"


class PipelineError(Exception):
    """A mistake in the input. The command line prints it as one line and exits with code 2.

    The message says what was expected, what was found, where, and what to change.
    """

    def __str__(self) -> str:
        # A library's message quoted inside ours may span lines; the user gets one.
        return " ".join(super().__str__().split())


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ', did you mean X?' for the known name nearest to `word`, or ''."""
    # Case apart: the nearest to Cifar10 is CIFAR10.
    spelled = {name.casefold(): name for name in known}
    nearest = get_close_matches(word.casefold(), spelled, n=1, cutoff=0.5)
    return f", did you mean {spelled[nearest[0]]}?" if nearest else ""


def some(items: Iterable[object], limit: int = 5) -> str:
    """Join the first `limit` items with commas and count the rest."""
    shown = [str(item) for item in items]
    rest = len(shown) - limit
    return ", ".join(shown[:limit]) + (f" and {rest} more" if rest > 0 else "")
