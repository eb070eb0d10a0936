"""The recalls of two models on the same images: of each class, and of small classes together.

A class of few test images can lose much recall before any test notices. So each comparison says
from which loss on it would have been noticed, and classes of few images are tested as groups too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from pipeline.evaluation.judging.findings import RecallChange, RecallGroup
from pipeline.evaluation.metrics import intervals
from pipeline.evaluation.metrics.scores import Floats, Ints, answers

# Classes of fewer test images are pooled, and a group has at least so many.
POOLED_BELOW = 100
POWER = 0.8


@dataclass(frozen=True)
class Recalls:
    """The recalls of candidate and champion.

    Attributes:
        classes: of each class that has images.
        groups: of small classes together, those of the fewest images first.
    """

    classes: Mapping[str, RecallChange]
    groups: tuple[RecallGroup, ...]


@dataclass(frozen=True)
class _Pairs:
    """What two models make of the images of some sets, one entry per set."""

    support: Ints
    candidate: Ints
    champion: Ints
    only_candidate: Ints
    only_champion: Ints

    def pooled(self, rows: Sequence[int]) -> "_Pairs":
        return _Pairs(*(np.asarray([counts[list(rows)].sum()]) for counts in vars(self).values()))

    def change(self, row: int, max_loss: float, confidence: float) -> dict[str, Any]:
        support, lost, gained = (
            int(counts[row]) for counts in (self.support, self.only_champion, self.only_candidate)
        )
        low, high = intervals.paired_proportions(
            np.asarray(lost), np.asarray(gained), np.asarray(support), confidence
        ).tolist()
        champion = int(self.champion[row]) / support
        seen_from = smallest_loss_seen(gained, support, max_loss, confidence)
        return {
            "support": support,
            "candidate": int(self.candidate[row]) / support,
            "champion": champion,
            "loss": (int(self.champion[row]) - int(self.candidate[row])) / support,
            "interval": (low, high),
            # More than it has, a champion cannot lose.
            "seen_from": None if seen_from is None or seen_from > champion else seen_from,
        }


def compare_recalls(
    labels: npt.NDArray[np.integer],
    candidate: Floats,
    champion: Floats,
    classes: Sequence[str],
    max_loss: float,
) -> Recalls:
    """Compare the recall of each class that has images, champion minus candidate, and of groups.

    The intervals are Bonett and Price's, and hold for all classes together in 95 % of test sets
    (Bonferroni), and for all groups together: of a hundred classes some always look bad. They know
    how few images a class has: one error in three shows nothing, and nor do three in three.

    Groups are made of the classes of fewer than `POOLED_BELOW` images: the smallest first, until a
    group has as many images; what is left over joins the last group. One class alone is no group.

    Args:
        labels: n class numbers.
        candidate: n x k posteriors.
        champion: n x k posteriors.
        classes: k names.
        max_loss: what a class may lose, from which power depends.
    """
    new, old = answers(labels, candidate), answers(labels, champion)
    k = len(classes)
    pairs = _Pairs(
        support=new.support,
        candidate=new.hits,
        champion=old.hits,
        only_candidate=np.bincount(new.labels[new.right & ~old.right], minlength=k),
        only_champion=np.bincount(new.labels[old.right & ~new.right], minlength=k),
    )
    present = list(map(int, np.flatnonzero(pairs.support)))
    groups = pool_small(pairs.support)
    return Recalls(
        {
            classes[row]: RecallChange(**pairs.change(row, max_loss, 1 - 0.05 / len(present)))
            for row in present
        },
        tuple(
            RecallGroup(
                classes=tuple(classes[row] for row in rows),
                **pairs.pooled(rows).change(0, max_loss, 1 - 0.05 / len(groups)),
            )
            for rows in groups
        ),
    )


def pool_small(support: Ints) -> list[list[int]]:
    """Return the groups of small classes, as rows of `support`: see `compare_recalls`."""
    small = [int(row) for row in np.argsort(support, kind="stable") if support[row]]
    groups: list[list[int]] = [[]]
    for row in small:
        if support[row] >= POOLED_BELOW:
            break
        if support[groups[-1]].sum() >= POOLED_BELOW:
            groups.append([])
        groups[-1].append(row)
    if len(groups) > 1 and support[groups[-1]].sum() < POOLED_BELOW:
        rest = groups.pop()
        groups[-1] += rest
    return [rows for rows in groups if len(rows) > 1]


def smallest_loss_seen(
    gained: int, support: int, max_loss: float, confidence: float
) -> float | None:
    """Return the smallest loss of recall that is refused with a power of 80 %; None for none.

    A loss is refused where it is larger than `max_loss` and Bonett and Price's interval lies above
    0. Given the images that the candidate has gained, this takes at least so many lost ones, c. An
    image is lost with a probability p; so many or more are with the probability I_p(c, n - c + 1),
    the binomial's tail as the incomplete beta function (Clopper and Pearson 1934), which is solved
    for p.

    Args:
        gained: images that only the candidate has right.
        support: images, n.
        max_loss: what may be lost.
        confidence: of the interval, in (0, 1).
    """
    lost = np.arange(support - gained + 1)
    low = intervals.paired_proportions(lost, np.asarray(gained), np.asarray(support), confidence)[
        :, 0
    ]
    refused = (low > 0) & (lost - gained > max_loss * support)
    if not refused.any():
        return None
    least = int(refused.argmax())
    return float(betaincinv(least, support - least + 1, POWER)) - gained / support
