"""Progress bars on long work."""

import sys
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

from tqdm import tqdm

S = TypeVar("S", bound=Sized)


def progress_bar(total: int | None, label: str, unit: str = "img") -> "tqdm[Any]":
    """Make a bar over `total` images, or whatever `unit` names; None counts without an end.

    For work that ends within a second it is never drawn; in a log, one line each 30 s is enough.
    """
    interval_s = 0.1 if sys.stderr.isatty() else 30.0
    return tqdm(
        total=total, desc=label, unit=unit, delay=1.0, mininterval=interval_s, file=sys.stderr
    )


def watched(batches: Iterable[S], total: int, label: str) -> Iterator[S]:
    """Yield the batches of `total` images while a bar follows."""
    with progress_bar(total, label) as bar:
        for batch in batches:
            yield batch
            bar.update(len(batch))
