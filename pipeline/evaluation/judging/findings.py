"""What is found when a candidate is judged: plain values, the same from the gate to the page."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One condition of the gate, and what was found.

    Attributes:
        name: of the condition, in lower case with underscores.
        title: of the condition, for people.
        value: what was found.
        finding: the same in words.
        detail: its interval or place; may be empty.
        limit: what was asked for, in words.
        passed: whether the condition holds.
        reason: a sentence that says what was found, against which setting, and the verdict.
        shown: whether that it holds is shown; if not, the condition was passed without evidence.
        caveat: what cannot be concluded from a pass, a clause; may be empty.
    """

    name: str
    title: str
    value: float
    finding: str
    detail: str
    limit: str
    passed: bool
    reason: str
    shown: bool = True
    caveat: str = ""


@dataclass(frozen=True, kw_only=True)
class RecallChange:
    """The recall of a class in two models, on the same images.

    Attributes:
        support: images of the class.
        candidate: its recall in the candidate, in [0, 1].
        champion: its recall in the champion, in [0, 1].
        loss: champion minus candidate.
        interval: of the loss: low, high.
        seen_from: the smallest loss that would be refused with a power of 80 %; None where no
            loss would be.
    """

    support: int
    candidate: float
    champion: float
    loss: float
    interval: tuple[float, float]
    seen_from: float | None


@dataclass(frozen=True, kw_only=True)
class RecallGroup(RecallChange):
    """The same of several small classes together.

    Attributes:
        classes: their names.
    """

    classes: tuple[str, ...]


@dataclass(frozen=True)
class Disagreement:
    """An image that one of two models has right, and the other wrong.

    Attributes:
        row: of the image.
        path: of its file.
        true: its class.
        first: what the first model says.
        first_probability: how sure it is, in [0, 1].
        second: what the second model says.
        second_probability: how sure it is, in [0, 1].
    """

    row: int
    path: str
    true: str
    first: str
    first_probability: float
    second: str
    second_probability: float

    @property
    def mended(self) -> bool:
        """Whether it is the second model that is right."""
        return self.second == self.true


@dataclass(frozen=True)
class Disagreements:
    """The images that one of two models has right, and the other wrong.

    Attributes:
        mended: how many only the second model has right.
        spoiled: how many only the first model has right.
        listed: some of either kind, spoiled ones first.
    """

    mended: int
    spoiled: int
    listed: tuple[Disagreement, ...]

    @classmethod
    def of(cls, found: Sequence[Disagreement], most: int) -> "Disagreements":
        """Count disagreements, and list the first `most` of either kind."""
        mended = [one for one in found if one.mended]
        spoiled = [one for one in found if not one.mended]
        return cls(len(mended), len(spoiled), (*spoiled[:most], *mended[:most]))
