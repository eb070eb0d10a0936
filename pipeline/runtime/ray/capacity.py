"""How many workers fit on the nodes of a cluster. No worker spans nodes."""

from collections.abc import Iterable, Mapping

# Of one node, or of what a worker takes from one: CPU, GPU and others by name.
Amounts = Mapping[str, float]

# Amounts are shared out in ten-thousandths: less is rounding.
_ROUNDING = 1e-5


def count_fitting(nodes: Iterable[Amounts], per_worker: Amounts) -> int:
    """Count the workers for which there is room."""
    return sum(
        min(int(node.get(kind, 0.0) / amount + _ROUNDING) for kind, amount in per_worker.items())
        for node in nodes
    )
