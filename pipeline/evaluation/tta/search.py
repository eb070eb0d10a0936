"""How many views are taken, and which are not tried because they would not be chosen."""

from dataclasses import dataclass
from typing import Any, Literal

from scipy.special import ndtri

from pipeline.evaluation.metrics.measure import compare, difference_interval
from pipeline.evaluation.metrics.table import Scored, metric_named
from pipeline.evaluation.reports.words import interval_text, number

Block = dict[str, Any]

_Z = float(ndtri(0.975))
# What chance hides of a gain: more than this many standard errors in one of twenty validation sets.
_HIDDEN = float(ndtri(0.95))


@dataclass(frozen=True)
class Choice:
    """How many views are taken.

    Attributes:
        count: of views; 0 is the image as it is.
        reason: why, a clause.
        untried: why the views left were not tried, a clause; empty where none are left.
    """

    count: int
    reason: str
    untried: str


class ViewSearch:
    """Takes the fewest views whose gain over the images as they are is beyond chance.

    A step is the mean of the first view, of the first two, and so on; its gain is that of
    `how.metric` on validation images. It is beyond chance where its paired interval lies above 0,
    at a confidence at which the intervals of all steps together hold the truth in 95 % of
    validation sets (Bonferroni, over the steps that are not tried too): of eight steps one often
    looks good by chance. Where no step has such a gain, the image is taken as it is.

    The search ends with the first such gain, or where none is to be expected. The mean of c views
    is free of a share of 1 - 1 / c of the variance in which the views differ. So all v views are
    taken to gain at most (1 - 1 / v) / (1 - 1 / c) times as much as c of them. Where the gain of c
    views, with what chance hides once in twenty times added, would even so not be beyond chance, no
    further view is tried.

    Attributes:
        choice: None while a further view is to be tried.
    """

    def __init__(self, plain: Scored, views: int, asked: int | Literal["auto"]) -> None:
        """Begin a search.

        Args:
            plain: the images as they are.
            views: how many there are to try.
            asked: 'auto', or how many to take, whatever they gain.
        """
        self._plain, self._views, self._asked = plain, views, asked
        self._tried = 0
        self._metric = metric_named(plain.how.metric)
        self._confidence = 1 - 0.05 / views
        self.choice: Choice | None = None

    def add(self, averaged: Scored) -> Block:
        """Take in the next step, and return its gain: see `compare`."""
        self._tried += 1
        compared = compare(averaged, self._plain)
        if self._asked == "auto":
            self.choice = self._judge(averaged, compared[self._metric.name])
        elif self._tried == self._asked:
            reason = f"tta.choose asks for {self._asked}"
            self.choice = Choice(self._asked, reason, self._unless_all(reason))
        return compared

    def _judge(self, averaged: Scored, gain: Block) -> Choice | None:
        count = self._tried
        title = self._metric.noun
        images = f"{len(self._plain.answers.labels)} validation images"
        level = f"{100 * self._confidence:.4g} %"
        if gain["ci95"][0] > 0:  # where it does not, a wider interval would do no better
            low, high = difference_interval(averaged, self._plain, self._confidence)
            if low > 0:
                return Choice(
                    count,
                    f"the first of {_steps(self._views)} whose gain in {title} on {images} is"
                    f" beyond chance, {number(gain['value'], sign=True)} ({level} interval"
                    f" {number(low, sign=True)} to {number(high, sign=True)})",
                    self._unless_all("the fewest views with a gain are taken"),
                )
        if count < self._views and self._may_gain(gain):
            return None
        shown = f"{number(gain['value'], sign=True)} {interval_text(gain['ci95'], sign=True)}"
        return Choice(
            0,
            f"of {_steps(count)}{' tried' * (count < self._views)} none has a gain in {title} on"
            f" {images} beyond chance ({level} intervals)",
            self._unless_all(
                f"{count} views gain {shown} on them, from which no gain beyond chance is to be"
                f" expected of {self._views}"
            ),
        )

    def _may_gain(self, gain: Block) -> bool:
        """Whether all views may have a gain beyond chance, going by that of the views so far."""
        if self._tried == 1:
            return True  # nothing has been averaged
        low, high = gain["ci95"]
        error = (high - low) / (2 * _Z)
        growth = (1 - 1 / self._views) / (1 - 1 / self._tried)
        needed = float(ndtri((1 + self._confidence) / 2)) * error
        return bool((gain["value"] + _HIDDEN * error) * growth > needed)

    def _unless_all(self, reason: str) -> str:
        return reason if self._tried < self._views else ""


def _steps(count: int) -> str:
    return f"{count} step{'s' if count > 1 else ''}"
