"""Figures of merit of a classifier, from counts that can be resampled.

Every function takes arrays whose last axis is classes or bins; leading axes, such as one per
bootstrap resample, pass through.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.errors import PipelineError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# As scikit-learn's log_loss: a class that a model calls impossible costs 36 nats, not infinity.
SMALLEST_PROBABILITY = float(np.finfo(np.float64).eps)
LARGEST_LOSS = -math.log(SMALLEST_PROBABILITY)
LARGEST_BRIER = 2.0


def check_posteriors(probabilities: Floats, images: str, param: str) -> None:
    """Refuse posteriors from which nothing can be computed.

    Args:
        probabilities: n x k.
        images: of what, and what for, such as 'test images to judge by'.
        param: that gives more of them.

    Raises:
        PipelineError: there are no rows, or a posterior is not a number.
    """
    if len(probabilities) == 0:
        raise PipelineError(f"expected {images}, found none; raise {param} or add images")
    bad = int((~np.isfinite(probabilities)).any(axis=1).sum())
    if bad:
        kind = images.partition(" images")[0]
        raise PipelineError(
            f"expected probabilities, found NaN or infinity for {bad} of {len(probabilities)}"
            f" {kind} images; the training diverged, lower its optimizer.lr"
        )


@dataclass(frozen=True)
class Answers:
    """What a model said about n images, reduced to what the metrics are made of.

    Attributes:
        labels: n, the true class of each image.
        predicted: n, the most probable class; the first of equals.
        confidence: n, its probability.
        loss: n, negative logarithm of the true class's probability, nats.
        brier: n, squared distance between the probabilities and the truth, in [0, 2].
        place: n, how many classes are thought more probable than the true one; of equally
            probable ones the first counts as more so.
        class_count: number of classes k.
    """

    labels: Ints
    predicted: Ints
    confidence: Floats
    loss: Floats
    brier: Floats
    place: Ints
    class_count: int

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether each answer is right."""
        return np.equal(self.labels, self.predicted)

    @property
    def support(self) -> Ints:
        """Count the images of each class."""
        return np.bincount(self.labels, minlength=self.class_count)

    @property
    def hits(self) -> Ints:
        """Count the right answers of each class."""
        return np.bincount(self.labels[self.right], minlength=self.class_count)

    @property
    def predictions(self) -> Ints:
        """Count how often each class was the answer."""
        return np.bincount(self.predicted, minlength=self.class_count)


def answers(labels: npt.NDArray[np.integer], probabilities: Floats) -> Answers:
    """Reduce `labels` (n) and `probabilities` (n x k) to what the metrics need.

    Brier's score is that of several classes, the sum over c of (p_c - [c is the truth])^2
    (Brier 1950); of two classes it is twice the score that counts only one of them.
    """
    truth: Ints = np.asarray(labels, dtype=np.int64)
    assert probabilities.ndim == 2
    assert len(labels) == len(probabilities)
    assert np.isfinite(probabilities).all()
    rows = np.arange(len(labels))
    predicted = probabilities.argmax(axis=1).astype(np.int64)
    of_truth = probabilities[rows, truth][:, None]
    before = np.arange(probabilities.shape[1]) < truth[:, None]
    error = probabilities.copy()
    error[rows, truth] -= 1.0
    place = ((probabilities > of_truth) | ((probabilities == of_truth) & before)).sum(axis=1)
    return Answers(
        labels=truth,
        predicted=predicted,
        confidence=probabilities[rows, predicted],
        loss=-np.log(np.clip(of_truth[:, 0], SMALLEST_PROBABILITY, 1.0)),
        brier=np.square(error, out=error).sum(axis=1),
        place=place,
        class_count=probabilities.shape[1],
    )


def recall(hits: Ints, support: Ints) -> Floats:
    """Share of each class's images that were found; NaN for a class without images."""
    return _ratio(hits, support)


def precision(hits: Ints, predictions: Ints) -> Floats:
    """Share of each class's predictions that are right; NaN for a class never predicted."""
    return _ratio(hits, predictions)


def f1(hits: Ints, support: Ints, predictions: Ints) -> Floats:
    """Harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN); NaN where all are 0."""
    return _ratio(2 * hits, support + predictions)


def balanced_accuracy(hits: Ints, support: Ints) -> Floats:
    """Mean recall over the classes that have images."""
    present = support > 0
    return np.asarray(recall(hits, support)[..., present].mean(axis=-1))


def macro_f1(hits: Ints, support: Ints, predictions: Ints) -> Floats:
    """Mean F1 over the classes that have images (`support` has no leading axes).

    A prediction of a class without images lowers the recall of the class it was taken from.
    """
    present = support > 0
    return np.asarray(f1(hits, support, predictions)[..., present].mean(axis=-1))


def confusion_matrix(given: Answers) -> Ints:
    """Count the images by true class (row) and predicted class (column): k x k."""
    k = given.class_count
    return np.bincount(given.labels * k + given.predicted, minlength=k * k).reshape(k, k)


def calibration_bin(confidence: Floats, bins: int) -> Ints:
    """Return the equal-width bin of each confidence; bin i holds (i / bins, (i + 1) / bins]."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def expected_calibration_error(given: Answers, bins: int) -> float:
    """Mean distance between confidence and accuracy, in [0, 1].

    Over equal-width bins of the top-1 confidence, weighted by their images
    (Guo et al. 2017, On Calibration of Modern Neural Networks, equation 5).
    """
    gap = given.right - given.confidence
    sums = np.bincount(calibration_bin(given.confidence, bins), weights=gap, minlength=bins)
    return float(np.abs(sums).sum() / len(gap))


@dataclass(frozen=True)
class Reliability:
    """One entry per bin of top-1 confidence; empty bins hold NaN.

    Attributes:
        images: number of images in the bin.
        confidence: their mean confidence.
        accuracy: the share of them that is right.
    """

    images: Ints
    confidence: Floats
    accuracy: Floats


def reliability(given: Answers, bins: int) -> Reliability:
    """Compare confidence with accuracy, bin by bin."""
    bin_of = calibration_bin(given.confidence, bins)
    images = np.bincount(bin_of, minlength=bins)
    confidence = np.bincount(bin_of, weights=given.confidence, minlength=bins)
    right = np.bincount(bin_of, weights=given.right.astype(np.float64), minlength=bins)
    return Reliability(images, _ratio(confidence, images), _ratio(right, images))


def _ratio(part: npt.NDArray[np.number], whole: npt.NDArray[np.number]) -> Floats:
    """Divide; NaN where `whole` is 0."""
    part, whole = np.broadcast_arrays(part, whole)
    result = np.full(part.shape, np.nan)
    np.divide(part, whole, out=result, where=whole > 0)
    return result
