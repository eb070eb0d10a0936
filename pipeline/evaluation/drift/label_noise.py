"""Whether more labels of new images are wrong than a model's mistakes explain.

A model contradicts a label when another class is more probable by 0.5. Some of these are its own
mistakes, and how many to expect is known from reference images, which it did not learn from either.
So the share of contradicted labels is compared, over all images and class by class, whatever mix of
classes the new images have. The margin is fixed, and not estimated from the reference as thresholds
of confident learning would be: so both sides are counted alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from scipy.stats import betabinom, hypergeom

from pipeline.evaluation.drift._units import FEWEST, Units, choose_sides
from pipeline.evaluation.metrics.intervals import difference_of, wilson
from pipeline.evaluation.metrics.scores import Floats, Ints

# n class numbers as given, and n x k posteriors.
Labelled = tuple[npt.NDArray[np.integer], Floats]
# Least difference of the probabilities of another class and of the given one in a contradiction.
MARGIN = 0.5
Scope = Literal["all", "given", "suggested"]


@dataclass(frozen=True)
class SuspectShare:
    """The contradicted labels of some of the new images, against those of the reference.

    Attributes:
        scope: all images; those whose label names one class (images of others filed under it); or
            those that the model takes for one class (its images filed under others).
        name: of the class; None for all.
        suspects: new images whose label is contradicted.
        images: new images of the scope.
        expected: suspects among so many images at the reference's rate, with the new images' mix of
            classes.
        excess: share of suspects minus the expected share, in [-1, 1].
        interval: 95 %, of the excess.
        p: one-sided; exact but for 'suggested', see `judge_labels`.
        corrected_p: for the number of scopes.
    """

    scope: Scope
    name: str | None
    suspects: int
    images: int
    expected: float
    excess: float
    interval: tuple[float, float]
    p: float
    corrected_p: float


@dataclass(frozen=True)
class LabelNoise:
    """The labels of new images that a model contradicts.

    Attributes:
        shares: by scope, the smallest p-value first; none with fewer than 10 units of the
            reference, or without images of one class on both sides.
        rows: of the suspects among the new images, the most suspicious first.
        suggested: their most probable classes.
        score: the probability of the suggested class minus that of the given one, in [0.5, 1].
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


def judge_labels(
    reference: Labelled,
    new: Labelled,
    classes: Sequence[str],
    *,
    seed: int = 0,
    units_reference: Units | None = None,
    units_new: Units | None = None,
) -> LabelNoise:
    """Compare the contradicted labels among new images with those among the reference.

    Counts take one image of each unit, see `choose_sides`; the rows of suspects are of all images.
    The p-values:

    - all images, and those of one given class: given how many images and suspects a class has on
      both sides together, the new ones' suspects are hypergeometric (Fisher's exact test; over all
      classes Gart's exact test of a common odds ratio, 1970);
    - images that are taken for one class: which share of them is of other classes depends on the
      mix of classes. That of the new images is estimated from what they are taken for, not from
      their labels (Lipton, Wang and Smola 2018, Detecting and Correcting for Label Shift with Black
      Box Predictors), and images of the reference are weighted by it. The p-value is the
      beta-binomial form of Fisher's test, with the effective number of these weighted images (Kish
      1965); with equal mixes, hence equal weights, it is Fisher's.

    Args:
        reference: labels and posteriors of images whose labels are trusted; the model's posteriors
            with its temperature.
        new: likewise of the new images, by the same model.
        classes: k names.
        seed: of the draw of one image of each unit.
        units_reference: n, see `choose_sides`.
        units_new: m.
    """
    said = [_suggested(*one) for one in (reference, new)]
    labels, posteriors = new
    rows = np.flatnonzero((said[1] >= 0) & (said[1] != labels))
    score = posteriors[rows, said[1][rows]] - posteriors[rows, labels[rows]]
    order = np.argsort(-score, kind="stable")

    sizes = len(reference[0]), len(labels)
    sides = choose_sides(sizes, (units_reference, units_new), np.random.default_rng(seed))
    before = _joint(reference[0][sides.reference], said[0][sides.reference], len(classes))
    after = _joint(labels[sides.new], said[1][sides.new], len(classes))
    enough = len(sides.reference) >= FEWEST
    shares = _compare(_scopes(before, after, classes)) if enough else ()
    return LabelNoise(shares, rows[order], said[1][rows[order]], score[order])


def _suggested(labels: npt.NDArray[np.integer], posteriors: Floats) -> Ints:
    """Return the class that the model takes each image for, or -1: n class numbers.

    It is -1 where that is not the given class, and hardly more probable.
    """
    rows = np.arange(len(labels))
    best = posteriors.argmax(axis=1)
    margin = posteriors[rows, best] - posteriors[rows, labels]
    return np.where((best == labels) | (margin >= MARGIN), best, -1).astype(np.int64)


def _joint(labels: npt.NDArray[np.integer], said: Ints, k: int) -> Ints:
    """Count images by given and suggested class: k x (k + 1), the last column is for neither."""
    cells = labels.astype(np.int64) * (k + 1) + np.where(said >= 0, said, k)
    return np.bincount(cells, minlength=k * (k + 1)).reshape(k, k + 1)


def _scopes(before: Ints, after: Ints, classes: Sequence[str]) -> list[SuspectShare]:
    """Count the suspects of each scope that has images on both sides.

    Args:
        before: k x k of the reference, see `_joint`.
        after: k x k of the new images.
        classes: k names.
    """
    # In a class that the reference lacks, nothing is expected.
    there = np.flatnonzero((before.sum(axis=1) > 0) & (after.sum(axis=1) > 0))
    scopes = [_by_given("all", None, before, after, there)] if len(there) else []
    scopes += [_by_given("given", classes[i], before, after, np.array([i])) for i in there.tolist()]
    weights = _weights(before, after)
    for i, name in enumerate(classes):
        if after[:, i].any() and weights @ before[:, i] > 0:
            scopes.append(_by_answer(name, i, before, after, weights))
    return scopes


def _by_given(
    scope: Scope, name: str | None, before: Ints, after: Ints, rows: npt.NDArray[np.intp]
) -> SuspectShare:
    """Compare the images of some given classes, each class at its own rate."""
    (images, suspects), (reference_images, reference_suspects) = (
        (joint.sum(axis=1)[rows], joint[:, :-1].sum(axis=1)[rows] - joint[rows, rows])
        for joint in (after, before)
    )
    chances = np.ones(1)
    for m, n, total in zip(images, reference_images, suspects + reference_suspects, strict=True):
        of_class = hypergeom.pmf(np.arange(total + 1), n + m, total, m)
        chances = np.convolve(chances, of_class)
    share = images / images.sum()
    return _share(
        (scope, name),
        (int(suspects.sum()), int(images.sum())),
        float(share @ (reference_suspects / reference_images)),
        # Images of one rate that would inform as much (Kish 1965).
        float(1 / (share**2 / reference_images).sum()),
        float(min(chances[suspects.sum() :].sum(), 1.0)),
    )


def _weights(before: Ints, after: Ints) -> Floats:
    """Return a weight for the reference's images of each class: k.

    With it, they have the mix of classes that explains the answers to the new images best.
    """
    images = before.sum(axis=1)
    rates = before / np.maximum(images, 1)[:, None]
    mix, _ = nnls(rates.T, after.sum(axis=0) / max(after.sum(), 1))
    return np.asarray(mix * images.sum() / np.maximum(images, 1))


def _by_answer(name: str, i: int, before: Ints, after: Ints, weights: Floats) -> SuspectShare:
    """Compare the images that are taken for class `i`, at the rate of the weighted reference."""
    images, weighted = int(after[:, i].sum()), weights * before[:, i]
    suspects = images - int(after[i, i])
    expected = float(1 - weighted[i] / weighted.sum())
    effective = float(weighted.sum() ** 2 / (weights @ weighted))
    right = effective * (1 - expected)
    # Without right answers in the reference, wrong ones are no surprise.
    p = betabinom.sf(suspects - 1, images, effective * expected + 1, right) if right > 0 else 1.0
    return _share(("suggested", name), (suspects, images), expected, effective, float(p))


def _share(
    of: tuple[Scope, str | None],
    counts: tuple[int, int],
    expected: float,
    effective: float,
    p: float,
) -> SuspectShare:
    """Describe one scope; its p-value is not corrected yet.

    Args:
        of: scope and name.
        counts: suspects and images.
        expected: share of suspects.
        effective: images that say so.
        p: as `SuspectShare` has it.
    """
    suspects, images = counts
    low, high = difference_of(
        (suspects / images, wilson(np.asarray(suspects), np.asarray(images))),
        (expected, wilson(np.asarray(expected * effective), np.asarray(effective))),
    )
    excess = suspects / images - expected
    interval = float(low), float(high)
    return SuspectShare(*of, suspects, images, expected * images, excess, interval, p, p)


def _compare(scopes: Sequence[SuspectShare]) -> tuple[SuspectShare, ...]:
    """Correct the p-values for their number, the smallest first.

    The question about all images has half of the weight, whatever the number of classes: with few
    new images it is the only one that can be answered (weighted procedure of Holm 1979).
    """
    weights = [0.5 if one.scope == "all" else 0.5 / max(len(scopes) - 1, 1) for one in scopes]
    ordered = sorted(zip(scopes, weights, strict=True), key=lambda pair: pair[0].p / pair[1])
    shares, corrected = [], 0.0
    for done, (one, weight) in enumerate(ordered):
        left = sum(weight for _, weight in ordered[done:])
        corrected = min(1.0, max(corrected, one.p * left / weight))
        shares.append(replace(one, corrected_p=corrected))
    return tuple(shares)
