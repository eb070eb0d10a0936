"""Whether more labels of new images are wrong than a model's mistakes explain.

Confident learning, see `metrics.suspicious`, marks images that confidently belong to another class
than their label says. Some of these are mistakes of the model. How many to expect is known from
reference images, which the model did not learn from either: so their share is compared, over all
images and class by class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import hypergeom

from pipeline.evaluation.drift._units import Units, choose_sides
from pipeline.evaluation.metrics.intervals import difference_of, wilson
from pipeline.evaluation.metrics.scores import Floats, Ints
from pipeline.evaluation.metrics.suspicious import class_thresholds, confident_classes

# n class numbers as given, and n x k posteriors.
Labelled = tuple[npt.NDArray[np.integer], Floats]
Scope = Literal["all", "given", "suggested"]


@dataclass(frozen=True)
class SuspectShare:
    """The suspects among some of the new images, against those among the reference's.

    Attributes:
        scope: all images; those of one given class (images of other classes filed under it); or
            those that confidently belong to one class (its images filed under others).
        name: of the class; None for all.
        suspects: new images whose label looks wrong.
        images: new images of the scope.
        reference_suspects, reference_images: the same of the reference.
        expected: suspects among so many images at the reference's rate; for all images each class
            at its own rate.
        excess: share of suspects minus the expected share, in [-1, 1].
        interval: 95 %, of the excess.
        p: exact, one-sided.
        corrected_p: for the number of scopes (Holm 1979).
    """

    scope: Scope
    name: str | None
    suspects: int
    images: int
    reference_suspects: int
    reference_images: int
    expected: float
    excess: float
    interval: tuple[float, float]
    p: float
    corrected_p: float


@dataclass(frozen=True)
class LabelNoise:
    """The labels of new images that look wrong.

    Attributes:
        shares: by scope, the smallest p-value first; none without images on both sides.
        rows: of the suspects among the new images, the most suspicious first.
        suggested: the class number that each confidently belongs to.
        score: the probability of the suggested class minus that of the given one, in (-1, 1].
    """

    shares: tuple[SuspectShare, ...]
    rows: npt.NDArray[np.intp]
    suggested: Ints
    score: Floats

    def findings(self, level: float, min_excess: float) -> tuple[SuspectShare, ...]:
        """Return the scopes with more suspects than chance and the model's mistakes explain.

        Args:
            level: of the corrected p-value, such as 0.01.
            min_excess: least excess share.
        """
        return tuple(
            one for one in self.shares if one.corrected_p < level and one.excess >= min_excess
        )


@dataclass(frozen=True)
class _Counts:
    """Images and suspects of both sides, in strata that have their own rates."""

    scope: Scope
    name: str | None
    images: Ints
    suspects: Ints
    reference_images: Ints
    reference_suspects: Ints

    def p_value(self) -> float:
        """Return the probability of as many suspects among the new images, or more.

        Given how many images and suspects each stratum has on both sides together, the new
        images' suspects are hypergeometric where both sides have the same rates (the exact test
        of a common odds ratio, Gart 1970; with one stratum Fisher's exact test).
        """
        chances = np.ones(1)
        for m, suspects, n, before in zip(
            self.images,
            self.suspects,
            self.reference_images,
            self.reference_suspects,
            strict=True,
        ):
            total = suspects + before
            of_stratum = hypergeom.pmf(np.arange(total + 1), n + m, total, m)
            chances = np.convolve(chances, of_stratum)
        return float(min(chances[self.suspects.sum() :].sum(), 1.0))

    def compared(self, p: float, corrected_p: float) -> SuspectShare:
        images, suspects = int(self.images.sum()), int(self.suspects.sum())
        weight = self.images / images
        expected = float((weight * self.reference_suspects / self.reference_images).sum())
        # Images of one rate that would inform as much about the expected share (Kish 1965).
        weighed = float(1 / (weight**2 / self.reference_images).sum())
        share = suspects / images
        low, high = difference_of(
            (share, wilson(np.asarray(suspects), np.asarray(images))),
            (expected, wilson(np.asarray(expected * weighed), np.asarray(weighed))),
        )
        return SuspectShare(
            self.scope,
            self.name,
            suspects,
            images,
            int(self.reference_suspects.sum()),
            int(self.reference_images.sum()),
            expected * images,
            share - expected,
            (float(low), float(high)),
            p,
            corrected_p,
        )


def judge_labels(
    reference: Labelled,
    new: Labelled,
    classes: Sequence[str],
    *,
    seed: int = 0,
    units_reference: Units | None = None,
    units_new: Units | None = None,
) -> LabelNoise:
    """Compare the suspects among new images with those among the reference.

    Thresholds come from the reference alone. Counts take one image of each unit, see
    `choose_sides`; the rows of suspects are of all images.

    Args:
        reference: labels and posteriors of images with labels that are trusted.
        new: likewise of the new images, by the same model.
        classes: k names.
        seed: of the draw of one image of each unit.
        units_reference: n, see `choose_sides`.
        units_new: m.
    """
    thresholds = class_thresholds(*reference)
    confident = [confident_classes(posteriors, thresholds) for _, posteriors in (reference, new)]
    labels, posteriors = new
    suspicious = (confident[1] >= 0) & (confident[1] != labels)
    rows = np.flatnonzero(suspicious)
    score = posteriors[rows, confident[1][rows]] - posteriors[rows, labels[rows]]
    order = np.argsort(-score, kind="stable")

    sizes = len(reference[0]), len(labels)
    sides = choose_sides(sizes, (units_reference, units_new), np.random.default_rng(seed))
    before = _joint(reference[0][sides.reference], confident[0][sides.reference], len(classes))
    after = _joint(labels[sides.new], confident[1][sides.new], len(classes))
    shares = _compare(_scopes(before, after, classes))
    return LabelNoise(shares, rows[order], confident[1][rows[order]], score[order])


def _joint(labels: npt.NDArray[np.integer], confident: Ints, k: int) -> Ints:
    """Count images by given class and confident class: k x (k + 1), the last column is neither."""
    cells = labels.astype(np.int64) * (k + 1) + np.where(confident >= 0, confident, k)
    return np.bincount(cells, minlength=k * (k + 1)).reshape(k, k + 1)


def _scopes(before: Ints, after: Ints, classes: Sequence[str]) -> list[_Counts]:
    """Return the scopes that have images on both sides."""

    def wrong(joint: Ints) -> Ints:
        off = joint.copy()
        np.fill_diagonal(off, 0)
        return off

    # Images and suspects by given class, then by the class that they confidently belong to.
    given = after.sum(1), wrong(after)[:, :-1].sum(1), before.sum(1), wrong(before)[:, :-1].sum(1)
    suggested = tuple(one.sum(0)[:-1] for one in (after, wrong(after), before, wrong(before)))
    there = (given[0] > 0) & (given[2] > 0)
    scopes = [_Counts("all", None, *(one[there] for one in given))] if there.any() else []
    of_classes: tuple[tuple[Scope, Sequence[Ints]], ...]
    of_classes = (("given", given), ("suggested", suggested))
    for i, name in enumerate(classes):
        for scope, counts in of_classes:
            if counts[0][i] > 0 and counts[2][i] > 0:
                scopes.append(_Counts(scope, name, *(one[[i]] for one in counts)))
    return scopes


def _compare(scopes: Sequence[_Counts]) -> tuple[SuspectShare, ...]:
    """Compute and correct the p-values (Holm 1979), the smallest first."""
    found = sorted(((one.p_value(), one) for one in scopes), key=lambda pair: pair[0])
    shares, corrected = [], 0.0
    for done, (p, one) in enumerate(found):
        corrected = min(1.0, max(corrected, (len(found) - done) * p))
        shares.append(one.compared(p, corrected))
    return tuple(shares)
