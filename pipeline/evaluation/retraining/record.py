"""What one call of `convoy retrain` found and did: a line of the history."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from pipeline.evaluation.reports.schema import Figure, Part

# Exit code of the command by outcome.
EXIT_CODES = {"promoted": 0, "failed": 1, "nothing": 3, "refused": 4, "held": 5}

# What a page of reports shows of them.
CALLS_FILE, STRANGEST_FILE = "calls.json", "strangest.png"

OutcomeName = Literal["promoted", "failed", "nothing", "refused", "held"]


class Reason(Part):
    """Why a call did what it did.

    Attributes:
        key: the rule, such as 'new_images' or 'new_class cat'; the same from call to call.
        text: a sentence with what was found and what the rule says.
    """

    key: str
    text: str


class Changes(Part):
    """How the images differ from those of the last training that a call made.

    An image is its content: renamed, it has moved; under another label, it is relabelled.

    Attributes:
        images: usable ones now.
        known: those of before; 0 where nothing was trained before.
        new, vanished, moved, relabelled: how many.
        conflicting: new images that are there under another label too, as copies or near
            duplicates.
        unusable: new files that cannot be used.
        new_classes, vanished_classes: names.
        classes: images by class now.
        examples: by kind of change, some paths, or what happened to them.
    """

    images: int
    known: int
    new: int
    vanished: int
    moved: int
    relabelled: int
    conflicting: int
    unusable: int
    new_classes: tuple[str, ...]
    vanished_classes: tuple[str, ...]
    classes: dict[str, int]
    examples: dict[str, tuple[str, ...]]

    @property
    def altered(self) -> int:
        """Images on which another training would differ."""
        return self.new + self.vanished + self.relabelled


class Strange(Part):
    """A new image that is unlike the known ones."""

    path: str
    label: str
    predicted: str
    strangeness: float


class DriftReport(Part):
    """New images against validation and test images, as the champion sees them.

    Attributes:
        new, reference: images compared.
        since: when the reference begins, where drift was agreed to before; None for all.
        classifier_p, kernel_p, class_p: p-values of the three tests; None with too few images.
        auc: by which the classifier tells new from known images.
        level: of the alarm.
        drifted: whether the classifier's p-value is below the level.
        shifted: classes that are predicted more or less often, in words.
        strangest: new images, the strangest first.
    """

    new: int
    reference: int
    since: datetime | None
    classifier_p: float | None
    kernel_p: float | None
    class_p: float | None
    auc: float | None
    level: float
    drifted: bool
    shifted: tuple[str, ...]
    strangest: tuple[Strange, ...]


class Suspect(Part):
    """A new image whose label looks wrong."""

    path: str
    label: str
    suggested: str


class NoiseReport(Part):
    """Labels of new images that look wrong to the champion.

    Attributes:
        new: images judged; near duplicates count once.
        unjudged: new images of classes that champion or reference lack.
        suspects: of those judged.
        expected: suspects at the rate of validation and test images.
        excess: share of wrong labels beyond that rate.
        ci95: of the excess.
        findings: what is beyond chance, in words.
        worst: the share among the images of the worst finding; 0 without one.
        listed: the most suspicious images.
    """

    new: int
    unjudged: int = 0
    suspects: int
    expected: float
    excess: float
    ci95: tuple[float, float]
    findings: tuple[str, ...]
    worst: float
    listed: tuple[Suspect, ...]


class ModelRecord(Part):
    """A version, and its metric on the test images of the call.

    Attributes:
        version: in the registry.
        value: its figure by the metric that models are shipped by; None where it was not measured.
    """

    version: str
    value: Figure | None


class GateCheck(Part):
    """A condition of the gate, as it was found.

    Attributes:
        name: of the condition.
        passed: whether it holds.
        text: a sentence with what was found and what was asked for.
    """

    name: str
    passed: bool
    text: str


class Call(Part):
    """One call.

    Attributes:
        id: of the call.
        begun, ended: UTC.
        host: where it ran.
        outcome: see `EXIT_CODES`.
        reasons: for what it did: the rules by which it trained, held back or did nothing; or what
            failed.
        checks: the conditions of the gate, where a candidate was judged.
        accepted: keys of what a person agreed to.
        resumed: id of the call that was killed before, and that this one has gone on with.
        trained: whether the workflow ran to its end.
        metric: that models are shipped by.
        changes, drift, noise: what was found; None where it was not looked for.
        candidate: the model that was judged.
        champion: the model that holds the alias at the end.
        commit: of git, where the call made one.
        notes: what else happened.
        known: the file of the images of this training; None where nothing was trained.
        sections: digests of the sections of params.yaml on which results depend.
    """

    id: str
    begun: datetime
    ended: datetime
    host: str
    outcome: OutcomeName
    reasons: tuple[Reason, ...]
    checks: tuple[GateCheck, ...] = ()
    accepted: tuple[str, ...] = ()
    resumed: str | None = None
    trained: bool = False
    metric: str = ""
    changes: Changes | None = None
    drift: DriftReport | None = None
    noise: NoiseReport | None = None
    candidate: ModelRecord | None = None
    champion: ModelRecord | None = None
    commit: str | None = None
    notes: tuple[str, ...] = ()
    known: str | None = None
    sections: dict[str, str] = Field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """Of the command."""
        return EXIT_CODES[self.outcome]
