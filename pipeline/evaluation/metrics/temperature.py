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

from pipeline.evaluation.metrics.scores import SMALLEST_PROBABILITY, Floats, check_posteriors
from pipeline.progress import progress_bar

# Beyond these, posteriors are all but one-hot, or all alike.
_LOWEST, _HIGHEST = 0.1, 50.0
_Z = float(ndtri(0.975))

# The shares of the classes among the images that a model will meet: as on the validation images,
# or all alike.
Prior = Literal["natural", "balanced"]


@dataclass(frozen=True)
class Temperature:
    """What the posteriors' sharpness is divided by.

    Attributes:
        value: T, 0.1 to 50; above 1 the model was too sure of itself, below not enough.
        low, high: its 95 % interval.
        change: of the NLL of other images by it, in nats, as far as these can say.
    """

    value: float
    low: float
    high: float
    change: float


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
    logarithm of T. On the images that it is fitted on, a temperature never hurts; by how much that
    flatters it is known (Takeuchi 1976). The change with that taken off is what leave-one-out
    cross-validation comes to (Stone 1977), and does not depend, as that does, on whether the one
    mistake of a set is among the images left out. The NLL is proper: no other posteriors than the
    true ones make it lower; the calibration error has bins, and a bias on few images.

    Args:
        labels: n class numbers.
        probabilities: n x k posteriors; a 0 counts as the smallest that a double resolves at 1.
        prior: the shares of the classes that it is fitted for.

    Raises:
        PipelineError: there are no rows, or a posterior is not a number.
    """
    check_posteriors(probabilities, "validation images to fit a temperature on", "split.val")
    scores, weights = _log(probabilities), class_weights(labels, prior)
    rows = np.arange(len(labels))

    def nll(log_temperature: float) -> float:
        bar.update()
        losses = -log_softmax(scores / np.exp(log_temperature), axis=1)[rows, labels]
        return float((weights * losses).mean())

    flawless = bool((scores.argmax(axis=1) == labels).all())
    bounds = (float(np.log(1.0 if flawless else _LOWEST)), float(np.log(_HIGHEST)))
    with progress_bar(None, "temperature", "step") as bar:
        found = float(minimize_scalar(nll, bounds=bounds, method="bounded").x)
        change = nll(found) - nll(0.0)
    error, penalty = _error(scores, labels, weights, float(np.exp(found)))
    low, high = np.clip(np.exp([found - _Z * error, found + _Z * error]), _LOWEST, _HIGHEST)
    return Temperature(
        value=float(np.exp(found)),
        low=_LOWEST if flawless else float(low),
        high=float(high),
        change=change + penalty,
    )


def _log(probabilities: Floats) -> Floats:
    return np.log(np.clip(probabilities, SMALLEST_PROBABILITY, 1.0))


def _error(
    scores: Floats, labels: npt.NDArray[np.integer], weights: Floats, temperature: float
) -> tuple[float, float]:
    """Return the standard error of log T, and by how much the fit flatters the mean loss.

    With b = 1 / T the loss of an image has the slope E_p[score] - score of the truth in b, and
    the curvature Var_p[score], each times the weight of the image. The error is infinite where the
    images say nothing about T.
    """
    posteriors = softmax(scores / temperature, axis=1)
    mean = (posteriors * scores).sum(axis=1)
    slope = weights * (mean - scores[np.arange(len(labels)), labels])
    curvature = (weights[:, None] * posteriors * (scores - mean[:, None]) ** 2).sum()
    if curvature < 1e-12:
        return np.inf, 0.0
    squares = (slope**2).sum()
    # log T moves by as much as b does, times T.
    return float(np.sqrt(squares) / curvature * temperature), float(
        squares / curvature / len(labels)
    )
