"""Temperature scaling: one number, fitted on the validation images, that mends confidence.

The logits are divided by T before the softmax (Guo et al. 2017, On Calibration of Modern Neural
Networks, section 4.2). Posteriors serve as well: log p differs from the logits by a number of
its own in each row, which the softmax takes out, so that p^(1/T), divided by its sum, is the same.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, ndtri, softmax

from pipeline.errors import PipelineError
from pipeline.evaluation.metrics.scores import SMALLEST_PROBABILITY, Floats

# Beyond these, posteriors are all but one-hot, or all alike.
_LOWEST, _HIGHEST = 0.1, 50.0
_Z = float(ndtri(0.975))


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


def fit_temperature(labels: npt.NDArray[np.integer], probabilities: Floats) -> Temperature:
    """Find the T of the lowest NLL on images that the model was not trained on.

    Where the model makes no mistake on them, the loss falls for ever with T, and the images say
    nothing about how sure it may be: T then stays at 1 or above, and its interval is open below.

    The interval is that of an M-estimator whose model need not be true (Huber 1967), on the
    logarithm of T.

    Args:
        labels: n class numbers.
        probabilities: n x k posteriors; a 0 counts as the smallest that a double resolves at 1.

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
    scores = _log(probabilities)
    rows = np.arange(len(labels))

    def nll(log_temperature: float) -> float:
        return float(-log_softmax(scores / np.exp(log_temperature), axis=1)[rows, labels].mean())

    flawless = bool((scores.argmax(axis=1) == labels).all())
    bounds = (float(np.log(1.0 if flawless else _LOWEST)), float(np.log(_HIGHEST)))
    found = float(minimize_scalar(nll, bounds=bounds, method="bounded").x)
    arm = _Z * _error(scores, labels, float(np.exp(found)))
    low, high = np.clip(np.exp([found - arm, found + arm]), _LOWEST, _HIGHEST)
    return Temperature(float(np.exp(found)), _LOWEST if flawless else float(low), float(high))


def _log(probabilities: Floats) -> Floats:
    return np.log(np.clip(probabilities, SMALLEST_PROBABILITY, 1.0))


def _error(scores: Floats, labels: npt.NDArray[np.integer], temperature: float) -> float:
    """Return the standard error of log T; infinite where the images say nothing about it.

    With b = 1 / T the loss of an image has the slope E_p[score] - score of the truth in b, and
    the curvature Var_p[score].
    """
    posteriors = softmax(scores / temperature, axis=1)
    mean = (posteriors * scores).sum(axis=1)
    slope = mean - scores[np.arange(len(labels)), labels]
    curvature = (posteriors * (scores - mean[:, None]) ** 2).sum()
    if curvature < 1e-12:
        return np.inf
    # log T moves by as much as b does, times T.
    return float(np.sqrt((slope**2).sum()) / curvature * temperature)
