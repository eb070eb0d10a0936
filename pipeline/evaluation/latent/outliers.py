"""Images unlike the others of their class, and images unlike anything in training."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.latent.search import Rows, Vectors, nearest_others
from pipeline.evaluation.metrics.scores import Floats
from pipeline.progress import progress_bar

NEIGHBOURS = 10
THRESHOLD = 3.5
_FEWEST_OF_CLASS = 10  # of fewer, the spread cannot be told
_NORMAL = 1.4826  # a normal distribution's standard deviation per median absolute deviation
_SMALLEST = 1e-7  # of a distance: float32 cannot tell less from nothing
_ACCEPTED = 0.95


@dataclass(frozen=True)
class Outliers:
    """How far images lie from their own class.

    Attributes:
        rows: m rows above the threshold, the furthest first.
        score: n, of all images; NaN where the class has too few images.
        similarity: n, mean cosine to the nearest of the own class; NaN likewise.
    """

    rows: Rows
    score: Floats
    similarity: Floats


def find_outliers(vectors: Vectors, labels: npt.NDArray[np.integer], rows: Rows) -> Outliers:
    """Find the images that lie far from the others of their class.

    An image's distance to its class is 1 less the mean cosine to its 10 nearest others of the class
    (the weight of Angiulli and Pizzuti 2002, Fast Outlier Detection in High Dimensional Spaces).
    Its logarithm is compared with those of the class by the modified z-score: the difference to
    their median, by their median absolute deviation times 1.4826. Above 3.5 it is an outlier
    (Iglewicz and Hoaglin 1993, How to Detect and Handle Outliers). Logarithms, because distances
    lean to the right. Classes of fewer than 10 images are left out.

    Args:
        vectors: n x d, of length 1 each.
        labels: n class numbers.
        rows: those to judge.
    """
    score, similarity = np.full(len(labels), np.nan), np.full(len(labels), np.nan)
    with progress_bar(len(rows), "outliers per class") as bar:
        for label in np.unique(labels[rows]):
            members = np.flatnonzero(labels == label)
            judged = np.flatnonzero(np.isin(members, rows))
            bar.update(len(judged))
            if len(members) < _FEWEST_OF_CLASS:
                continue
            k = min(NEIGHBOURS, len(members) - 1)
            found = nearest_others(vectors[members], judged, k, "within a class")
            mean = found.similarity.mean(axis=1, dtype=np.float64)
            similarity[members[judged]] = mean
            score[members[judged]] = _modified_z(np.log(np.maximum(1 - mean, _SMALLEST)))
    above = np.flatnonzero(np.nan_to_num(score) > THRESHOLD)
    return Outliers(above[np.argsort(-score[above], kind="stable")], score, similarity)


def unlike_training(
    validation: npt.NDArray[np.floating], test: npt.NDArray[np.floating]
) -> tuple[float, Rows]:
    """Find the test images that are less like any training image than validation images are.

    The threshold accepts 95 % of the validation images (Sun, Ming, Zhu and Li 2022,
    Out-of-Distribution Detection with Deep Nearest Neighbors): of test images like these, 5 % lie
    below it.

    Args:
        validation: each image's largest cosine to a training image; at least one.
        test: likewise.

    Returns:
        the threshold, and the rows of test images below it, the least alike first.
    """
    threshold = float(np.quantile(validation, 1 - _ACCEPTED))
    below = np.flatnonzero(test < threshold)
    return threshold, below[np.argsort(test[below], kind="stable")]


def _modified_z(values: Floats) -> Floats:
    """Return how many standard deviations of a normal distribution each value is above the median.

    Where more than half of the values are equal, nothing is far: 0.
    """
    apart = values - np.median(values)
    spread = _NORMAL * np.median(np.abs(apart))
    return np.asarray(apart / spread) if spread > 0 else np.zeros_like(apart)
