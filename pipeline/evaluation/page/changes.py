"""What changed against the champion: what reports/register.json holds of the two."""

from dataclasses import dataclass

from pipeline.evaluation.judging.findings import RecallChange
from pipeline.evaluation.registration.outcome import RegisterReport
from pipeline.evaluation.reports.schema import Figure

_MOVED_AT_MOST = 5  # classes in either direction


@dataclass(frozen=True)
class Change:
    """A value of champion and candidate on the same images.

    Attributes:
        title: of a metric, or the name of a class.
        champion, candidate: values; None where one has none.
        difference: candidate - champion.
        judgement: 'better', 'worse' or 'cannot tell'.
        images: of the class; None for a metric.
    """

    title: str
    champion: float | None
    candidate: float | None
    difference: Figure
    judgement: str
    images: int | None = None


def metrics(register: RegisterReport) -> list[Change]:
    """Return the metrics of both, in their order; none without a comparison."""
    if register.comparison is None or register.champion is None or register.champion.test is None:
        return []
    found = []
    for metric in register.metrics:
        difference = register.comparison.figures[metric.name]
        old = register.champion.test.figures[metric.name].value
        new = None if old is None or difference.value is None else old + difference.value
        judgement = judge(difference, lower_is_better=metric.lower_is_better)
        found.append(Change(metric.title, old, new, difference, judgement))
    return found


def moved_recalls(register: RegisterReport) -> tuple[list[Change], list[Change]]:
    """Return the classes whose recall fell, and those whose recall rose, the most first.

    The intervals hold for all classes together.
    """
    ordered = sorted((register.classes or {}).items(), key=lambda item: -item[1].loss)
    fell = [_recall(*item) for item in ordered if item[1].loss > 0]
    rose = [_recall(*item) for item in reversed(ordered) if item[1].loss < 0]
    return fell[:_MOVED_AT_MOST], rose[:_MOVED_AT_MOST]


def _recall(name: str, change: RecallChange) -> Change:
    low, high = change.interval  # of what the candidate loses
    difference = Figure(value=-change.loss, ci95=(-high, -low))
    judgement = judge(difference, lower_is_better=False)
    return Change(
        name, change.champion, change.candidate, difference, judgement, images=change.support
    )


def judge(difference: Figure, *, lower_is_better: bool) -> str:
    """Say what an interval shows: that it is better or worse, or neither where it holds 0."""
    low, high = difference.ci95
    if difference.value is None or low <= 0 <= high:
        return "cannot tell"
    return "better" if (low > 0) != lower_is_better else "worse"
