"""Which pixels of the image a unit of a layer can depend on, along one axis.

The recurrences are those of Araujo, Norris and Sim 2019, "Computing Receptive Fields of
Convolutional Neural Networks".
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce


@dataclass(frozen=True)
class Field:
    """The receptive fields of the units along one axis of a volume.

    Unit i sees the pixels from first + i * jump to last + i * jump, both included, as far as they
    lie between low and high. The others are padding, or no window reaches them.

    Attributes:
        first, last: pixels that unit 0 sees, padding among them.
        jump: pixels from the field of one unit to that of the next; 0 where all see the same. A
            fraction behind adaptive pooling whose windows do not fit the volume evenly.
        units: how many there are.
        low, high: the outermost pixels of the image that any unit sees.
    """

    first: int
    last: int
    jump: float
    units: int
    low: int
    high: int

    @classmethod
    def of_image(cls, side: int) -> "Field":
        """Return the fields of the pixels themselves."""
        return cls(0, 0, 1, side, 0, side - 1)

    @property
    def size(self) -> int:
        """Pixels that one unit sees, padding among them."""
        return self.last - self.first + 1

    @property
    def start(self) -> float:
        """The middle of the first unit's field; the middle of the first pixel is 0.5."""
        return (self.first + self.last + 1) / 2

    def extent(self, unit: int) -> tuple[int, int]:
        """Return the first and the last pixel of the image that a unit sees."""
        ahead = round(unit * self.jump)
        return max(self.low, self.first + ahead), min(self.high, self.last + ahead)

    def sees_all(self, side: int) -> bool:
        """Whether each unit sees all pixels of an image of this side."""
        return {self.extent(0), self.extent(self.units - 1)} == {(0, side - 1)}

    def slide(
        self, window: int, stride: int, before: int, units: int, dilation: int = 1
    ) -> "Field":
        """Return the fields behind a window that slides over these units.

        Args:
            window: units in the window.
            stride: from one window to the next, units.
            before: padding before the first unit.
            units: how many windows there are.
            dilation: from one unit of the window to the next.
        """
        reach = (window - 1) * dilation
        first = round(self.first - before * self.jump)
        last = round(self.last + (reach - before) * self.jump)
        jump = self.jump * stride
        end = round(last + (units - 1) * jump)
        return Field(first, last, jump, units, max(self.low, first), min(self.high, end))

    def all_units(self) -> "Field":
        """Return the field of one unit that sees what all these see."""
        last = round(self.last + (self.units - 1) * self.jump)
        return replace(self, last=last, jump=0, units=1)

    def pool_to(self, units: int) -> "Field":
        """Return the fields behind adaptive pooling; where its windows differ, of the largest."""
        if units == 1:
            return self.all_units()
        starts = [i * self.units // units for i in range(units)]
        ends = [-(-(i + 1) * self.units // units) for i in range(units)]
        window = max(end - start for start, end in zip(starts, ends, strict=True))
        jump = self.jump * self.units / units
        return replace(self.slide(window, 1, 0, self.units - window + 1), jump=jump, units=units)


def joined(fields: Sequence[Field]) -> Field:
    """Return the fields of units that read several volumes: of the longest path to each unit.

    A volume of one unit that is read with longer ones is read by all units.
    """
    units = max(field.units for field in fields)
    same = [replace(f, units=units, jump=f.jump if f.units == units else 0) for f in fields]
    return reduce(_join, same)


def _join(a: Field, b: Field) -> Field:
    for one, other in ((a, b), (b, a)):
        whole = other.all_units()
        if one.jump == 0 and one.first <= whole.first and one.last >= whole.last:
            return one  # all units see the same, and all that is to be seen
    return Field(
        min(a.first, b.first),
        max(a.last, b.last),
        max(a.jump, b.jump),
        a.units,
        min(a.low, b.low),
        max(a.high, b.high),
    )
