"""What it does to the figures that decisions have read the same test images again and again."""

_MISSES = 0.05  # of an interval at 95 %


def describe_looks(count: int) -> str:
    """Say how often decisions have read the test images, and what that does to the figures.

    Of k independent intervals, each of which misses the truth with the probability a, one at least
    misses it with 1 - (1 - a)^k. Intervals on the same images hang together, which lowers the
    probability (Sidak 1967): it is an upper limit.

    Args:
        count: of decisions, k.
    """
    if count == 0:
        return "No decision has read these test images."
    if count == 1:
        return (
            "One decision has read these test images, the first: an interval at 95 % misses the"
            " truth in 5 of 100 cases."
        )
    chance = f"{100 * chance_of_a_miss(count):.0f} %"
    return (
        f"{count} decisions have read these test images: the chance that an interval at 95 % of at"
        f" least one of them misses the truth has grown to up to {chance}, and a model that is the"
        " best of many on the same images looks better than it is. With other test images the count"
        " starts again."
    )


def chance_of_a_miss(count: int) -> float:
    """Return the probability that at least one of `count` independent 95 % intervals misses."""
    return float(1 - (1 - _MISSES) ** count)
