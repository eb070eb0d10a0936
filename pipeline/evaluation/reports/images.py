"""What the stages report of images: data.json, balance.json and suspicious.json."""

from pipeline.evaluation.reports.schema import Part


class LeftOut(Part):
    """A file that cannot be used."""

    path: str
    problem: str


class NearDuplicates(Part):
    """Groups of images that look alike."""

    clusters: int
    images: int


class DataReport(Part):
    """data.json: what the page shows of it."""

    files: int
    usable: int
    problems: dict[str, int]
    left_out: tuple[LeftOut, ...]
    near_duplicates: NearDuplicates


class BalancedClass(Part):
    """The synthetic images of a class."""

    copies: int


class BalanceReport(Part):
    """balance.json: what the page shows of it."""

    synthetic_images: int
    classes: dict[str, BalancedClass]


class SuspiciousImages(Part):
    """How many images were looked at, by split."""

    val: int
    test: int


class SuspiciousLabel(Part):
    """A label that looks wrong, and what the model says instead."""

    path: str
    split: str
    given: str
    suggested: str
    probability: float
    score: float


class SuspiciousReport(Part):
    """suspicious.json: images whose label looks wrong, the most suspicious first.

    Attributes:
        share_of_wrong_labels: estimated; None where the model is too weak for it.
        withheld: why there is no estimate; empty where there is one.
    """

    images: SuspiciousImages
    suspicious: int
    share_of_wrong_labels: float | None
    withheld: str
    listed: tuple[SuspiciousLabel, ...]
