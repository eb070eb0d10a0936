"""Images whose label looks wrong, by confident learning.

Northcutt, Jiang and Chuang 2021, Confident Learning: Estimating Uncertainty in Dataset Labels.
A model sees images that it was not trained on. A class's threshold is the mean probability that
its own images get for it; an image confidently belongs to the most probable class whose threshold
it reaches. Images that confidently belong to another class than their label says, the
off-diagonal of the confident joint, are suspicious.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.metrics.predictions import Predictions
from pipeline.evaluation.metrics.scores import Floats, Ints


@dataclass(frozen=True)
class Suspects:
    """m suspicious images, the most suspicious first.

    Attributes:
        rows: m, their rows among all images.
        suggested: m, the class that each confidently belongs to.
        score: m, the probability of the most probable other class less that of the given one, in
            (-1, 1]: the paper's normalised margin, turned round.
        joint: k x k, images by given and confident class; what belongs nowhere confidently is
            not counted.
    """

    rows: npt.NDArray[np.intp]
    suggested: Ints
    score: Floats
    joint: Ints


def find_suspects(labels: npt.NDArray[np.integer], probabilities: Floats) -> Suspects:
    """Find the images whose label looks wrong.

    Args:
        labels: n class numbers, as given.
        probabilities: n x k posteriors by a model that did not learn from these images.
    """
    n, k = probabilities.shape
    given: Ints = np.asarray(labels, np.int64)
    own = probabilities[np.arange(n), given]
    support = np.bincount(given, minlength=k)
    # A class without images has no threshold: nothing belongs to it confidently.
    threshold = np.full(k, np.inf)
    np.divide(np.bincount(given, own, k), support, out=threshold, where=support > 0)
    # The mean of equal probabilities may come out a rounding above them.
    reached = probabilities >= threshold * (1 - 1e-12)
    confident: Ints = np.where(reached, probabilities, -1.0).argmax(axis=1).astype(np.int64)
    counted = reached.any(axis=1)
    joint = np.bincount(given[counted] * k + confident[counted], minlength=k * k).reshape(k, k)
    others = probabilities.copy()
    others[np.arange(n), given] = -1.0
    score = others.max(axis=1) - own
    rows = np.flatnonzero(counted & (confident != given))
    rows = rows[np.argsort(-score[rows], kind="stable")]
    return Suspects(rows, confident[rows], score[rows], joint)


def share_of_wrong_labels(joint: Ints, support: Ints) -> float:
    """Estimate which share of all labels is wrong: the off-diagonal of the calibrated joint.

    Each row of the confident joint is scaled to the images of its class (the paper's equation 3).

    Args:
        joint: k x k, images by given and confident class.
        support: k, images by given class.
    """
    counted = joint.sum(axis=1)
    off = counted - np.diagonal(joint)
    wrong = np.divide(off * support, counted, out=np.zeros(len(support)), where=counted > 0)
    return float(wrong.sum() / support.sum())


@dataclass(frozen=True)
class SuspiciousLabel:
    """An image whose label looks wrong.

    Attributes:
        split: of the image.
        row: of the image in its split.
        path: of its file.
        given: the class that its label names.
        suggested: the class that it confidently belongs to.
        probability: of the suggested class.
        score: as in `Suspects`.
    """

    split: str
    row: int
    path: str
    given: str
    suggested: str
    probability: float
    score: float


@dataclass(frozen=True)
class SuspiciousLabels:
    """The labels that look wrong to a model.

    Attributes:
        count: of suspicious images.
        share_of_wrong_labels: estimated, of all images.
        listed: the most suspicious ones.
    """

    count: int
    share_of_wrong_labels: float
    listed: list[SuspiciousLabel]


def suspicious_labels(given: Mapping[str, Predictions], most: int) -> SuspiciousLabels:
    """Find the images of several splits whose label looks wrong, and list at most `most`.

    The model must not have learned from any of them: a network that has learned a label finds
    nothing wrong with it.

    Args:
        given: posteriors by split, at least one.
        most: how many are listed.
    """
    labels = np.concatenate([one.labels for one in given.values()])
    posteriors = np.concatenate([one.probabilities for one in given.values()])
    places = [(split, row) for split, one in given.items() for row in range(len(one.ids))]
    classes = next(iter(given.values())).classes
    found = find_suspects(labels, posteriors)
    listed = []
    for at, suggested, score in zip(found.rows[:most], found.suggested, found.score, strict=False):
        split, row = places[at]
        listed.append(
            SuspiciousLabel(
                split=split,
                row=row,
                path=given[split].paths[row],
                given=classes[labels[at]],
                suggested=classes[suggested],
                probability=float(posteriors[at, suggested]),
                score=float(score),
            )
        )
    support = np.bincount(labels, minlength=len(classes))
    share = share_of_wrong_labels(found.joint, support)
    return SuspiciousLabels(len(found.rows), share, listed)
