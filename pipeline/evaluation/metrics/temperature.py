"""Temperature scaling: one number, fitted on the validation images, that mends confidence.

The logits are divided by T before the softmax (Guo et al. 2017, On Calibration of Modern Neural
Networks, section 4.2). Posteriors serve as well: log p differs from the logits by a number of
its own in each row, which the softmax takes out, so that p^(1/T), divided by its sum, is the same.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, ndtri, softmax

from pipeline.errors import PipelineError
from pipeline.evaluation.metrics.intervals import mean_interval
from pipeline.evaluation.metrics.posteriors import temper
from pipeline.evaluation.metrics.scores import LARGEST_LOSS, SMALLEST_PROBABILITY, Floats, answers

# Beyond these, posteriors are all but one-hot, or all alike.
_LOWEST, _HIGHEST = 0.1, 50.0
_Z = float(ndtri(0.975))
_FOLDS = 5

# The shares of the classes among the images that a model will meet: as on the validation images,
# or all alike.
Prior = Literal["natural", "balanced"]


@dataclass(frozen=True)
class Temperature:
    """What the posteriors' sharpness is divided by.

    Attributes:
        value: T, 0.1 to 50; above 1 the model was too sure of itself, below not enough.
        low, high: its 95 % interval.
    """

    value: float
    low: float
    high: float


def class_weights(labels: npt.NDArray[np.integer], prior: Prior) -> Floats:
    """Return the weight of each image, n in all, by which its class has its share of the prior."""
    if prior == "natural":
        return np.ones(len(labels))
    _, row, support = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(len(labels) / (len(support) * support[row]))


def fit_temperature(
    labels: npt.NDArray[np.integer], probabilities: Floats, prior: Prior = "natural"
) -> Temperature:
    """Find the T of the lowest NLL on images that the model was not trained on.

    A model is surer of large classes than of small ones, rightly or not. So the best T depends on
    how often it will meet each: images are weighted by class.

    Where the model makes no mistake on them, the loss falls for ever with T, and the images say
    nothing about how sure it may be: T then stays at 1 or above, and its interval is open below.

    The interval is that of an M-estimator whose model need not be true (Huber 1967), on the
    logarithm of T.

    Args:
        labels: n class numbers.
        probabilities: n x k posteriors; a 0 counts as the smallest that a double resolves at 1.
        prior: the shares of the classes that it is fitted for.

    Raises:
        PipelineError: there are no rows, or a posterior is not a number.
    """
    if len(labels) == 0:
        raise PipelineError(
            "expected validation images to fit a temperature on, found none; raise split.val or"
            " add images"
        )
    bad = int((~np.isfinite(probabilities)).any(axis=1).sum())
    if bad:
        raise PipelineError(
            f"expected probabilities, found NaN or infinity for {bad} of {len(labels)} validation"
            " images; the training diverged, lower its optimizer.lr"
        )
    return _fit(_log(probabilities), labels, class_weights(labels, prior))


@dataclass(frozen=True)
class CrossValidated:
    """What a temperature makes of validation images that it was not fitted on.

    Attributes:
        change: of the NLL, in nats: with it less without; None where there are too few images.
        low, high: the 95 % interval of the change.
    """

    change: float | None
    low: float
    high: float

    @property
    def helps(self) -> bool:
        """Whether the NLL is lower with the temperature."""
        return self.change is not None and self.change < 0


def cross_validate(
    labels: npt.NDArray[np.integer], probabilities: Floats, prior: Prior
) -> CrossValidated:
    """Fit a temperature on four fifths of the images at a time, and judge it on the last fifth.

    On the images that it is fitted on, a temperature never hurts. Cross-validation (Stone 1974)
    shows whether it does on others. It is judged by the NLL, since that is proper: no other
    posteriors than the true ones make it lower, while the calibration error has bins and a bias of
    its own on few images. Folds share out each class evenly.

    Args:
        labels: n class numbers.
        probabilities: n x k posteriors.
        prior: as in `fit_temperature`; images count by the same weights here.
    """
    if len(labels) < 2:
        return CrossValidated(None, -LARGEST_LOSS, LARGEST_LOSS)
    scores, weights = _log(probabilities), class_weights(labels, prior)
    fold = np.empty(len(labels), np.int64)
    fold[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % _FOLDS
    changes = np.empty(len(labels))
    for number in np.unique(fold):
        out = fold == number
        found = _fit(scores[~out], labels[~out], weights[~out]).value
        with_it = answers(labels[out], temper(probabilities[out], found)).loss
        changes[out] = weights[out] * (with_it - answers(labels[out], probabilities[out]).loss)
    largest = float(LARGEST_LOSS * weights.max())
    low, high = mean_interval(changes, -largest, largest).tolist()
    return CrossValidated(float(changes.mean()), low, high)


def _fit(scores: Floats, labels: npt.NDArray[np.integer], weights: Floats) -> Temperature:
    rows = np.arange(len(labels))

    def nll(log_temperature: float) -> float:
        losses = -log_softmax(scores / np.exp(log_temperature), axis=1)[rows, labels]
        return float((weights * losses).mean())

    flawless = bool((scores.argmax(axis=1) == labels).all())
    bounds = (float(np.log(1.0 if flawless else _LOWEST)), float(np.log(_HIGHEST)))
    found = float(minimize_scalar(nll, bounds=bounds, method="bounded").x)
    arm = _Z * _error(scores, labels, weights, float(np.exp(found)))
    low, high = np.clip(np.exp([found - arm, found + arm]), _LOWEST, _HIGHEST)
    return Temperature(float(np.exp(found)), _LOWEST if flawless else float(low), float(high))


def _log(probabilities: Floats) -> Floats:
    return np.log(np.clip(probabilities, SMALLEST_PROBABILITY, 1.0))


def _error(
    scores: Floats, labels: npt.NDArray[np.integer], weights: Floats, temperature: float
) -> float:
    """Return the standard error of log T; infinite where the images say nothing about it.

    With b = 1 / T the loss of an image has the slope E_p[score] - score of the truth in b, and
    the curvature Var_p[score], each times the weight of the image.
    """
    posteriors = softmax(scores / temperature, axis=1)
    mean = (posteriors * scores).sum(axis=1)
    slope = weights * (mean - scores[np.arange(len(labels)), labels])
    curvature = (weights[:, None] * posteriors * (scores - mean[:, None]) ** 2).sum()
    if curvature < 1e-12:
        return np.inf
    # log T moves by as much as b does, times T.
    return float(np.sqrt((slope**2).sum()) / curvature * temperature)
