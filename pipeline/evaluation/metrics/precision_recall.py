"""Precision against recall, one class against the rest, and average precision.

Average precision is the sum over thresholds of (R_n - R_n-1) P_n, without interpolation: the
mean, over the images of a class, of the precision among all images that score at least as much.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit, ndtri

from pipeline.evaluation.metrics import intervals
from pipeline.evaluation.metrics.scores import Floats, Ints
from pipeline.progress import progress_bar

_Z = float(ndtri(0.975))


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision on n images of k classes.

    Attributes:
        labels: n class numbers.
        support: k, images of each class.
        value: k; NaN for a class without images.
        error: k, standard errors; NaN likewise.
        influence: n, how much one more of each image would move the mean of the classes.
    """

    labels: Ints
    support: Ints
    value: Floats
    error: Floats
    influence: Floats

    @property
    def macro(self) -> float:
        """Mean over the classes that have images."""
        return float(np.nanmean(self.value))

    @property
    def trials(self) -> float:
        """How many images of one class inform as much as these about the mean."""
        return intervals.effective_images(self.support[self.support > 0])


@dataclass(frozen=True)
class Curve:
    """Precision by recall of one class, recall rising; empty for a class without images.

    Attributes:
        recall: m, in (0, 1].
        precision: m, in (0, 1].
        threshold: m, the probability from which on an image counts as found.
    """

    recall: Floats
    precision: Floats
    threshold: Floats


def average_precision(labels: npt.NDArray[np.integer], probabilities: Floats) -> AveragePrecision:
    """Compute average precision of each class from `labels` (n) and `probabilities` (n x k)."""
    truth: Ints = np.asarray(labels, np.int64)
    support = np.bincount(truth, minlength=probabilities.shape[1])
    value, error = np.full((2, len(support)), np.nan)
    total = np.zeros(len(truth))
    present = np.flatnonzero(support)
    with progress_bar(len(present), "average precision", "class") as bar:
        for row in present:
            value[row], influence = _one_class(truth == row, probabilities[:, row])
            error[row] = standard_error(influence, truth)
            total += influence
            bar.update()
    return AveragePrecision(truth, support, value, error, total / np.count_nonzero(support))


def _one_class(positive: npt.NDArray[np.bool_], scores: Floats) -> tuple[float, Floats]:
    """Return average precision and each image's influence on it, n.

    With P_i the precision and B_i the number of images at the threshold of image i, one more of
    image j moves the mean of P_i by its own P_j - AP, if it is positive, and by
    ([j positive] - P_i) / B_i of each positive i that scores no more than j.
    """
    order = np.argsort(-scores, kind="stable")
    found = positive[order].astype(np.float64)
    first, last = _ties(scores[order])
    at_least = last + 1.0
    precision = np.cumsum(found)[last] / at_least
    value = float((found * precision).sum() / found.sum())
    later = np.cumsum((found / at_least)[::-1])[::-1][first]
    later_precision = np.cumsum((found * precision / at_least)[::-1])[::-1][first]
    influence = np.empty(len(scores))
    influence[order] = found * (precision - value) + found * later - later_precision
    return value, influence / found.sum()


def _ties(ordered: Floats) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the first and the last place of the run of equal scores around each place."""
    starts = np.flatnonzero(np.r_[True, np.diff(ordered) != 0])
    sizes = np.diff(np.r_[starts, len(ordered)])
    return np.repeat(starts, sizes), np.repeat(starts + sizes - 1, sizes)


def class_intervals(given: AveragePrecision) -> Floats:
    """Return the interval of each class's average precision: k x 2; [0, 1] without images.

    The standard error, that of the infinitesimal jackknife within classes (Jaeckel 1972), is laid
    on the logit (Boyd, Eng and Page 2013, who found this to hold for average precision). So that
    the interval does not collapse without mistakes, it reaches at least as far as Wilson's for as
    many images as the class has.
    """
    found = np.tile([0.0, 1.0], (len(given.value), 1))
    for row in np.flatnonzero(given.support):
        found[row] = _interval(given.value[row], given.error[row], float(given.support[row]))
    return found


def macro_interval(given: AveragePrecision) -> Floats:
    """Return the interval of the mean, likewise; Wilson's is for the effective number of images."""
    return _interval(given.macro, standard_error(given.influence, given.labels), given.trials)


def difference_interval(one: AveragePrecision, two: AveragePrecision) -> Floats:
    """Return the interval of the mean of `one` minus that of `two`, on the same images.

    It reaches at least as far as Bonett and Price's for the effective number of images, none of
    which distinguishes the two: two perfect models may still differ.
    """
    value = one.macro - two.macro
    none = np.asarray(0)
    _, least = intervals.paired_proportions(none, none, np.asarray(one.trials))
    arm = max(_Z * standard_error(one.influence - two.influence, one.labels), least)
    return np.asarray(np.clip([value - arm, value + arm], -1.0, 1.0))


def standard_error(influence: Floats, labels: Ints) -> float:
    """Return the standard error of a figure from each image's influence on it, within classes.

    A class of one image has no variance within; its image is compared with the mean of all, 0.
    """
    support = np.bincount(labels)[labels]
    mean = np.bincount(labels, influence)[labels] / support
    alone = support == 1
    within = np.where(alone, influence, influence - mean)
    return float(
        np.sqrt((within**2 * np.where(alone, 1.0, support / np.maximum(support - 1, 1))).sum())
    )


def _interval(value: float, error: float, trials: float) -> Floats:
    """Return the interval on the logit, at least Wilson's for `trials` images."""
    count = np.asarray(trials)
    interval = intervals.wilson(value * count, count)
    if 0.0 < value < 1.0 and error > 0:
        arm = _Z * error / (value * (1 - value))
        low, high = expit(logit(value) - arm), expit(logit(value) + arm)
        interval = np.asarray([min(low, interval[0]), max(high, interval[1])])
    return interval


def class_curves(
    labels: npt.NDArray[np.integer], probabilities: Floats, classes: Sequence[str], points: int
) -> dict[str, Curve]:
    """Return the curve of each class by its name, see `curve`.

    Args:
        labels: n class numbers.
        probabilities: n x k posteriors.
        classes: k names.
        points: of each curve, at most.
    """
    return {
        name: curve(labels == row, probabilities[:, row], points)
        for row, name in enumerate(classes)
    }


def curve(positive: npt.NDArray[np.bool_], scores: Floats, points: int) -> Curve:
    """Return precision and recall at the scores of the positive images, at most `points` of them.

    Args:
        positive: n, whether the image is of the class.
        scores: n, the probability of the class.
        points: how many to keep, evenly spread over the recall; the last one stays.
    """
    order = np.argsort(-scores, kind="stable")
    found = positive[order]
    _, last = _ties(scores[order])
    places = np.unique(last[found])
    hits = np.cumsum(found)[places]
    if len(places) > points:
        keep = np.linspace(0, len(places) - 1, points).round().astype(np.intp)
        places, hits = places[keep], hits[keep]
    recall = hits / max(int(found.sum()), 1)
    return Curve(recall, hits / (places + 1.0), scores[order][places])
