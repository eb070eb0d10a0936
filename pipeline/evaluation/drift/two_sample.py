"""Whether new images come from where the reference came from: three tests with p-values.

The reference must be images that the model did not learn from (validation and test): a network has
fitted its training images, and new ones differ from these without any drift.

All p-values are of permutation tests: under the hypothesis that reference and new images are drawn
alike, P(p <= a) <= a holds for every a and every number of images. They count one image of each
unit, see `choose_sides`, and are None with fewer than 10 units on a side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata
from sklearn.utils.extmath import randomized_svd

from pipeline.errors import PipelineError
from pipeline.evaluation.drift._units import Units, choose_sides
from pipeline.evaluation.metrics.scores import Floats

# Images of each side that go into a test of embeddings; with more, seconds become minutes.
MOST = 2000

_COMPONENTS = 50
_FOLDS = 5
# Of the classifier's ridge, as a multiple of the mean variance of the components.
_RIDGE = 0.1


@dataclass(frozen=True)
class ClassifierTest:
    """Whether a classifier can distinguish new images from the reference.

    Attributes:
        auc: of the classifier on images that it did not learn from, in [0, 1]; about 0.5 without
            drift. None with too few images.
        p: in (0, 1], small with drift. None with too few images.
        strangeness: m, of every new image: the higher, the less it is like the reference; above 0
            it is nearer to the new images' mean. 0 for all with too few images.
    """

    auc: float | None
    p: float | None
    strangeness: Floats


@dataclass(frozen=True)
class KernelTest:
    """The distance between the distributions of reference and new images.

    Attributes:
        mmd2: unbiased estimate of the squared maximum mean discrepancy; about 0 without drift, and
            then as often below 0. None with too few images.
        p: in (0, 1], small with drift. None with too few images.
    """

    mmd2: float | None
    p: float | None


@dataclass(frozen=True)
class ClassChange:
    """How often one class is predicted.

    Attributes:
        name: of the class.
        reference: images of the reference with this answer.
        new: new images with this answer.
        reference_share: of all counted images of the reference, in [0, 1].
        new_share: of all counted new images.
    """

    name: str
    reference: int
    new: int
    reference_share: float
    new_share: float


@dataclass(frozen=True)
class ClassShift:
    """Whether classes are predicted as often as in the reference.

    Attributes:
        p: in (0, 1], small with a shift. None with too few images.
        changes: all classes, those that changed most beyond chance first.
    """

    p: float | None
    changes: tuple[ClassChange, ...]


def classifier_test(
    reference: npt.NDArray[np.floating],
    new: npt.NDArray[np.floating],
    *,
    seed: int,
    permutations: int = 999,
    units_reference: Units | None = None,
    units_new: Units | None = None,
) -> ClassifierTest:
    """Train a linear classifier to distinguish new from reference, and test its held-out AUC.

    Source: Lopez-Paz and Oquab 2017, Revisiting Classifier Two-Sample Tests; here with the AUC,
    which does not depend on the sizes of both sides, and with a permutation p-value, since scores
    of overlapping folds are not independent.

    The classifier is Fisher's discriminant with a ridge, on the first principal components of the
    standardised pooled sample. Preparation and folds see no labels but the number of each in each
    fold, and labels are permuted within folds: so every permutation has the same folds and sizes,
    and the p-value is exact. The discriminant is linear in the labels, once both classes are
    weighted alike: all permutations are one product of matrices per fold.

    Args:
        reference: n x d embeddings.
        new: m x d embeddings.
        seed: of sample, folds and permutations.
        permutations: the least p-value is 1 / (1 + permutations).
        units_reference: n, see `choose_sides`.
        units_new: m.

    Raises:
        PipelineError: the embeddings differ in length, or hold values that are not finite.
    """
    _check(reference, new)
    generator = np.random.default_rng(seed)
    sides = choose_sides((len(reference), len(new)), (units_reference, units_new), generator, MOST)
    if sides.too_few:
        return ClassifierTest(None, None, np.zeros(len(new)))
    n, m = len(sides.reference), len(sides.new)
    prepared = _Components(np.concatenate([reference[sides.reference], new[sides.new]]), seed)
    folds = np.concatenate([generator.permutation(np.arange(size) % _FOLDS) for size in (n, m)])
    labels = np.repeat([[0.0], [1.0]], (n, m), axis=0).repeat(1 + permutations, axis=1)
    for fold in range(_FOLDS):
        at = np.ix_(folds == fold, np.arange(1, 1 + permutations))
        labels[at] = generator.permuted(labels[at], axis=0)

    everywhere = prepared.of(new)
    # An image outside the sample is scored where no image of its unit was learned from.
    units = sides.units
    chosen = np.concatenate([units[sides.reference], units[len(reference) :][sides.new]])
    of_unit = dict(zip(chosen.tolist(), folds.tolist(), strict=True))
    fold_of = np.asarray(
        [
            of_unit.get(unit, row % _FOLDS)
            for row, unit in enumerate(units[len(reference) :].tolist())
        ]
    )
    scores = np.empty_like(labels)
    strangeness = np.empty(len(new))
    for fold in range(_FOLDS):
        inside, outside = folds == fold, folds != fold
        directions, middle = _discriminants(prepared.sample[outside], labels[outside])
        scores[inside] = prepared.sample[inside] @ directions - middle
        here = fold_of == fold
        strangeness[here] = everywhere[here] @ directions[:, 0] - middle[0]
    # Equal images get scores that differ by rounding alone: in 32 bits these are ties.
    ranks = rankdata(scores.astype(np.float32), axis=0)
    auc = ((ranks * labels).sum(axis=0) - m * (m + 1) / 2) / (n * m)
    return ClassifierTest(float(auc[0]), _p_value(auc), strangeness)


def kernel_test(
    reference: npt.NDArray[np.floating],
    new: npt.NDArray[np.floating],
    *,
    seed: int,
    permutations: int = 999,
    units_reference: Units | None = None,
    units_new: Units | None = None,
) -> KernelTest:
    """Test the maximum mean discrepancy between new and reference.

    Source: Gretton et al. 2012, A Kernel Two-Sample Test: the unbiased estimate (their equation 3)
    with the kernel exp(-|x - y|^2 / (2 s^2)), where s is the median distance of all pairs. It is
    computed on the same components as in `classifier_test`, and sees differences of any kind, such
    as in spread, not only those of means.

    Args:
        reference: n x d embeddings.
        new: m x d embeddings.
        seed: of sample and permutations.
        permutations: the least p-value is 1 / (1 + permutations).
        units_reference: n, see `choose_sides`.
        units_new: m.

    Raises:
        PipelineError: the embeddings differ in length, or hold values that are not finite.
    """
    _check(reference, new)
    generator = np.random.default_rng(seed)
    sides = choose_sides((len(reference), len(new)), (units_reference, units_new), generator, MOST)
    if sides.too_few:
        return KernelTest(None, None)
    n, m = len(sides.reference), len(sides.new)
    pooled = np.concatenate([reference[sides.reference], new[sides.new]])
    kernel = _kernel(_Components(pooled, seed).sample)
    labels = np.repeat([[0.0], [1.0]], (n, m), axis=0).repeat(1 + permutations, axis=1)
    labels[:, 1:] = generator.permuted(labels[:, 1:], axis=0)
    # Sums over pairs of different images; each pair counts twice.
    of_row = kernel.sum(axis=1)
    within = (labels * (kernel @ labels)).sum(axis=0)
    across = of_row @ labels - within
    rest = of_row.sum() - 2 * across - within
    mmd2 = within / (m * (m - 1)) + rest / (n * (n - 1)) - 2 * across / (n * m)
    return KernelTest(float(mmd2[0]), _p_value(mmd2))


def class_shift(
    reference_predicted: npt.NDArray[np.integer],
    new_predicted: npt.NDArray[np.integer],
    classes: Sequence[str],
    *,
    seed: int = 0,
    permutations: int = 9999,
    units_reference: Units | None = None,
    units_new: Units | None = None,
) -> ClassShift:
    """Test whether classes are predicted as often among new images as in the reference.

    Pearson's chi-square of the table of 2 x k counts, with a p-value from tables that permuted
    labels give: valid whatever is in the cells.

    Args:
        reference_predicted: n class numbers.
        new_predicted: m class numbers.
        classes: k names.
        seed: of the draws.
        permutations: the least p-value is 1 / (1 + permutations).
        units_reference: n, see `choose_sides`.
        units_new: m.
    """
    generator = np.random.default_rng(seed)
    sizes = len(reference_predicted), len(new_predicted)
    sides = choose_sides(sizes, (units_reference, units_new), generator)
    before, after = (
        np.bincount(predicted[rows], minlength=len(classes))
        for predicted, rows in (
            (reference_predicted, sides.reference),
            (new_predicted, sides.new),
        )
    )
    n, m = int(before.sum()), int(after.sum())
    both = before + after
    expected = both * (m / max(n + m, 1))
    # The margins are the same in all tables, so that this part of chi-square orders them.
    parts = np.divide(1.0, both, out=np.zeros(len(both)), where=both > 0)
    contribution = (after - expected) ** 2 * parts
    changes = tuple(
        ClassChange(
            classes[i],
            int(before[i]),
            int(after[i]),
            float(before[i] / max(n, 1)),
            float(after[i] / max(m, 1)),
        )
        for i in np.argsort(-contribution, kind="stable")
    )
    if sides.too_few:
        return ClassShift(None, changes)
    drawn = generator.multivariate_hypergeometric(both, m, size=permutations)
    tables = np.concatenate([after[None], drawn])
    return ClassShift(_p_value((tables - expected) ** 2 @ parts), changes)


class _Components:
    """The first principal components of a standardised sample, and their scores."""

    def __init__(self, pooled: npt.NDArray[np.floating], seed: int) -> None:
        values = pooled.astype(np.float64)
        self._varying = np.ptp(values, axis=0) > 0
        values = values[:, self._varying]
        self._mean, self._scale = values.mean(axis=0), values.std(axis=0)
        values = (values - self._mean) / self._scale
        count = min(_COMPONENTS, *values.shape)
        if count == 0:  # all images are the same
            self._axes: Floats = np.zeros((0, 1))
        else:
            _, _, axes = randomized_svd(values, count, random_state=seed)
            self._axes = axes.T
        self.sample: Floats = values @ self._axes

    def of(self, vectors: npt.NDArray[np.floating]) -> Floats:
        """Return the components of any images."""
        values = vectors[:, self._varying].astype(np.float64)
        return np.asarray((values - self._mean) / self._scale @ self._axes)


def _discriminants(sample: Floats, labels: Floats) -> tuple[Floats, Floats]:
    """Fit a discriminant for each column of labels, which are 0 and 1 with the same counts.

    The inverse of the total covariance times the difference of means has the direction of
    Fisher's discriminant, and the covariance does not depend on labels.

    Returns:
        directions, k x columns, and what the point midway between both means scores, per column.
    """
    new = sample.T @ (labels / labels[:, 0].sum())
    reference = sample.T @ ((1 - labels) / (1 - labels[:, 0]).sum())
    covariance = np.atleast_2d(np.cov(sample, rowvar=False))
    # Where all images are alike, any ridge gives the direction 0.
    ridge = _RIDGE * np.trace(covariance) / len(covariance) or 1.0
    directions = np.linalg.solve(covariance + ridge * np.eye(len(covariance)), new - reference)
    middle = ((new + reference) / 2 * directions).sum(axis=0)
    return directions, middle


def _kernel(sample: Floats) -> Floats:
    """Return the Gaussian kernel of all pairs, 0 for an image with itself."""
    squared = pdist(sample, "sqeuclidean")
    width = 2 * np.median(squared)
    # With most images alike the median is 0.
    return np.asarray(squareform(np.exp(-squared / width if width > 0 else -squared)))


def _p_value(statistics: Floats) -> float:
    """Return the share of statistics, the first of them included, that are not below the first."""
    slack = 1e-10 * max(abs(statistics[0]), 1e-4)  # equal ones may differ by rounding
    return float((statistics >= statistics[0] - slack).mean())


def _check(reference: npt.NDArray[np.floating], new: npt.NDArray[np.floating]) -> None:
    """Refuse embeddings that cannot be compared."""
    if reference.shape[1] != new.shape[1]:
        raise PipelineError(
            f"expected embeddings of one model, found {reference.shape[1]} numbers for each"
            f" reference image and {new.shape[1]} for each new one; embed both with one model"
        )
    for name, vectors in (("reference", reference), ("new", new)):
        bad = int((~np.isfinite(vectors)).any(axis=1).sum())
        if bad:
            raise PipelineError(
                f"expected finite embeddings, found {bad} of {len(vectors)} {name} images with"
                " others; the model is broken: train it again at a lower learning rate"
            )
