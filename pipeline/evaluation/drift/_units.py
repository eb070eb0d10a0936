"""Images that are not independent of each other: one of each unit goes into a test."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Units = npt.NDArray[np.integer]

# With fewer units on a side, a test has no power worth its false alarms.
FEWEST = 10


@dataclass(frozen=True)
class Sides:
    """The rows that go into a test, ascending.

    Attributes:
        reference: rows of the reference.
        new: rows of the new images.
        units: of all reference rows, then of all new rows; equal numbers are one unit.
    """

    reference: npt.NDArray[np.intp]
    new: npt.NDArray[np.intp]
    units: npt.NDArray[np.int64]

    @property
    def too_few(self) -> bool:
        """Whether there are fewer than `FEWEST` rows on a side."""
        return min(len(self.reference), len(self.new)) < FEWEST


def choose_sides(
    sizes: tuple[int, int],
    units: tuple[Units | None, Units | None],
    generator: np.random.Generator,
    most: int | None = None,
) -> Sides:
    """Draw one row of each unit, over both sides together, and at most `most` rows of each side.

    Images of one unit (near duplicates, or one group) are alike, so that labels 'reference' and
    'new' may not be permuted image by image. With one image of each unit they may: units are then
    what is exchangeable. To permute whole units instead would let one long film decide the result,
    and would change the sizes of both sides from permutation to permutation. Which image stands
    for a unit is drawn at random, hence also on which side a unit counts that both sides have.

    Args:
        sizes: images of the reference, new images.
        units: a number for each image of either side, from the same numbering; None: each image is
            a unit of its own.
        generator: of the draws.
        most: rows of each side; None: no limit.
    """
    numbers = _numbered(sizes, units)
    order = generator.permutation(len(numbers))
    _, first = np.unique(numbers[order], return_index=True)
    chosen = np.sort(order[first])
    at = np.searchsorted(chosen, sizes[0])
    rows = [_some(part, most, generator) for part in (chosen[:at], chosen[at:] - sizes[0])]
    return Sides(rows[0], rows[1], numbers)


def _numbered(
    sizes: tuple[int, int], units: tuple[Units | None, Units | None]
) -> npt.NDArray[np.int64]:
    given = [np.asarray(part, np.int64) for part in units if part is not None and len(part)]
    free = 1 + max((int(part.max()) for part in given), default=-1)
    numbers = []
    for size, part in zip(sizes, units, strict=True):
        numbers.append(np.arange(free, free + size) if part is None else np.asarray(part, np.int64))
        free += size
    return np.concatenate(numbers)


def _some(
    rows: npt.NDArray[np.intp], most: int | None, generator: np.random.Generator
) -> npt.NDArray[np.intp]:
    if most is None or len(rows) <= most:
        return rows
    return np.sort(generator.choice(rows, most, replace=False))
