"""Which rows an epoch trains on, and in which global batches."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Labels = npt.NDArray[np.integer]
SamplerName = Literal["natural", "square_root", "balanced"]

# In proportion to what each sampler draws the classes, from their rows.
SAMPLED_SHARES: Mapping[SamplerName, Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]] = {
    "natural": lambda counts: counts.astype(np.float64),
    "square_root": np.sqrt,
    "balanced": lambda counts: (counts > 0).astype(np.float64),
}


def count_steps(rows: int, global_batch_size: int) -> int:
    """Return the steps of one epoch: the batches into which all rows fit."""
    return -(-rows // global_batch_size)


def epoch_rows(labels: Labels, sampler: SamplerName, rng: np.random.Generator) -> Rows:
    """Draw the rows of one epoch, as many as there are labels, in random order.

    'natural' takes every row once. 'square_root' and 'balanced' take each class in proportion to
    the square root of its rows, or all alike (Kang et al. 2020, there called square-root and
    class-balanced sampling), but without leaving the counts to chance: they are as near to these
    shares as whole numbers can be, and within a class every row appears equally often, give or
    take one.

    Args:
        labels: n, the class of each row.
        sampler: how often the classes appear.
        rng: draws order, remainders and ties.
    """
    if sampler == "natural":
        return rng.permutation(len(labels))
    by_class = np.argsort(labels, kind="stable")
    _, counts = np.unique(labels, return_counts=True)
    shares = SAMPLED_SHARES[sampler](counts)
    drawn = [
        _take(rows, quota, rng)
        for rows, quota in zip(
            np.split(by_class, np.cumsum(counts)[:-1]),
            _apportion(len(labels), shares, rng),
            strict=True,
        )
    ]
    return rng.permutation(np.concatenate(drawn))


def _apportion(total: int, shares: npt.NDArray[np.float64], rng: np.random.Generator) -> Rows:
    """Divide `total` in proportion to `shares` by largest remainders; chance decides ties."""
    exact = total * shares / shares.sum()
    quotas: Rows = np.floor(exact).astype(np.int64)
    # Rounded, so that equal remainders tie however floats fall.
    remainders = np.round(exact - quotas, 9)
    first = np.lexsort((rng.random(len(shares)), -remainders))
    quotas[first[: total - quotas.sum()]] += 1
    return quotas


def _take(rows: Rows, quota: int, rng: np.random.Generator) -> Rows:
    """Take `quota` of `rows`: all of them as often as they fit in, then some of them once."""
    repeats, rest = divmod(quota, len(rows))
    return np.concatenate([np.tile(rows, repeats), rng.permutation(rows)[:rest]])


def global_batches(rows: Rows, size: int) -> list[Rows]:
    """Cut the rows of an epoch into global batches of `size` rows at most.

    Sizes differ by one at most, where the rows do not divide: no row is dropped, and no batch is
    so small that batch normalisation has nothing to average.
    """
    return np.array_split(rows, count_steps(len(rows), size))
