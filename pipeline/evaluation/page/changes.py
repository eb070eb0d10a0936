"""What changed against the champion: what reports/register.json holds of the two."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.page.words import OF_CONFIDENCE, titles

Block = Mapping[str, Any]

_MOVED_AT_MOST = 5  # classes in either direction


@dataclass(frozen=True)
class Metric:
    """A metric of champion and candidate on the same images.

    Attributes:
        title: of the metric.
        champion, candidate: values; None where one has none.
        difference: {"value": candidate - champion, "ci95": [low, high]}.
        judgement: 'better', 'worse' or 'cannot tell'.
    """

    title: str
    champion: float | None
    candidate: float | None
    difference: Block
    judgement: str


@dataclass(frozen=True)
class Recall:
    """The recall of a class, and how it moved.

    Attributes:
        name: of the class.
        images: of the class.
        champion, candidate: recalls in [0, 1].
        difference: {"value": candidate - champion, "ci95": [low, high]}; the intervals hold for
            all classes together.
        judgement: 'better', 'worse' or 'cannot tell'.
    """

    name: str
    images: int
    champion: float
    candidate: float
    difference: Block
    judgement: str


def metrics(register: Block) -> list[Metric]:
    """Return the metrics of both, in the order of the comparison; none without a comparison.

    Args:
        register: reports/register.json.
    """
    comparison = register["comparison"]
    if comparison is None:
        return []
    before = register["champion"]["test"]
    found = []
    for key, title in titles(comparison).items():
        difference, old = comparison[key], before[key]["value"]
        known = old is not None and difference["value"] is not None
        found.append(
            Metric(
                title,
                old,
                old + difference["value"] if known else None,
                difference,
                judge(difference, less_is_better=key in OF_CONFIDENCE),
            )
        )
    return found


def moved_recalls(register: Block) -> tuple[list[Recall], list[Recall]]:
    """Return the classes whose recall fell, and those whose recall rose, the most first.

    Args:
        register: reports/register.json.
    """
    recalls = [_recall(name, block) for name, block in (register["classes"] or {}).items()]
    recalls.sort(key=lambda recall: float(recall.difference["value"]))
    fell = [recall for recall in recalls if recall.difference["value"] < 0]
    rose = [recall for recall in reversed(recalls) if recall.difference["value"] > 0]
    return fell[:_MOVED_AT_MOST], rose[:_MOVED_AT_MOST]


def _recall(name: str, block: Block) -> Recall:
    low, high = block["interval"]  # of what the candidate loses
    difference = {"value": -block["loss"], "ci95": [-high, -low]}
    judgement = judge(difference, less_is_better=False)
    images, champion, candidate = block["support"], block["champion"], block["candidate"]
    return Recall(name, images, champion, candidate, difference, judgement)


def judge(difference: Block, *, less_is_better: bool) -> str:
    """Say what an interval shows: that it is better or worse, or neither where it holds 0."""
    low, high = difference["ci95"]
    if difference["value"] is None or low <= 0 <= high:
        return "cannot tell"
    return "better" if (low > 0) != less_is_better else "worse"
