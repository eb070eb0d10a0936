"""The classical classifiers, as scikit-learn has them."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipeline.evaluation.baseline._budget import (
    MOST_TREES,
    TREES_AT_ONCE,
    count_trees,
    most_leaves,
)
from pipeline.params import Baseline
from pipeline.progress import progress_bar

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.integer]
Options = Mapping[str, int | float | str]

# Each classifier's settings, the one for want of a trial first. Of equally good classifiers, the
# first in this order is taken, the simplest.
SETTINGS: dict[str, tuple[Options, ...]] = {
    "linear_discriminant": ({"shrinkage": 0.1}, {"shrinkage": 0.01}, {"shrinkage": 0.5}),
    "logistic_regression": ({"C": 1.0}, {"C": 0.1}, {"C": 0.01}),
    "random_forest": (
        {"max_features": "sqrt", "min_samples_leaf": 1},
        {"max_features": 0.2, "min_samples_leaf": 1},
        {"max_features": "sqrt", "min_samples_leaf": 3},
    ),
    "svm": ({"C": 10.0}, {"C": 1.0}, {"C": 100.0}),
}
_CALIBRATION_FOLDS = 5
_TRIAL_TREES = 100
_ITERATIONS = 300  # of a logistic regression on standardised features


@contextmanager
def one_thread() -> Iterator[None]:
    """Have linear algebra done by one thread: the same result on any number of cores.

    On matrices as small as these, more threads are slower, and on a busy machine 30 times so.
    """
    with threadpool_limits(1, user_api="blas"):
        yield


def fit_for_trial(
    name: str, options: Options, features: Features, labels: Labels, *, how: Baseline, jobs: int
) -> Any:
    """Train a classifier that only needs to name classes: smaller, and without probabilities."""
    if name == "svm":
        return SVC(class_weight=_weight(how), **options).fit(features, labels)
    return _fit(name, options, features, labels, how=how, jobs=jobs, trees=_TRIAL_TREES)


def fit_estimator(
    name: str, options: Options, features: Features, labels: Labels, *, how: Baseline, jobs: int
) -> Any:
    """Train a classifier that gives probabilities.

    Args:
        name: of SETTINGS; an SVM needs two rows of each class.
        options: of SETTINGS.
        features: n x d, standardised.
        labels: n class numbers.
        how: seed and class weights.
        jobs: threads that grow a forest; the result does not depend on them.
    """
    if name == "svm":
        smallest = int(np.unique(labels, return_counts=True)[1].min())
        folds = StratifiedKFold(
            min(_CALIBRATION_FOLDS, smallest), shuffle=True, random_state=how.seed
        )
        machine = SVC(class_weight=_weight(how), **options)
        return CalibratedClassifierCV(machine, ensemble=False, cv=folds).fit(features, labels)
    return _fit(name, options, features, labels, how=how, jobs=jobs, trees=MOST_TREES)


def _fit(
    name: str,
    options: Options,
    features: Features,
    labels: Labels,
    *,
    how: Baseline,
    jobs: int,
    trees: int,
) -> Any:
    if name == "random_forest":
        return _grow(options, features, labels, how=how, jobs=jobs, most=trees)
    if name == "logistic_regression":
        with warnings.catch_warnings():
            # Where it has not converged, the early end is one more regularisation.
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LogisticRegression(
                max_iter=_ITERATIONS, class_weight=_weight(how), **options
            ).fit(features, labels)
    classes = np.unique(labels)
    priors = np.full(len(classes), 1 / len(classes)) if _weight(how) else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Only one sample available")
        return LinearDiscriminantAnalysis(solver="lsqr", priors=priors, **options).fit(
            features, labels
        )


def _weight(how: Baseline) -> str | None:
    return "balanced" if how.class_weight == "balanced" else None


def _grow(
    options: Options, features: Features, labels: Labels, *, how: Baseline, jobs: int, most: int
) -> RandomForestClassifier:
    """Grow all trees, some at a time: the same as at once."""
    images, width = features.shape
    present, counts = np.unique(labels, return_counts=True)
    trees = min(count_trees(images, width, len(present)), most)
    # As 'balanced', which scikit-learn does not want for trees that are grown some at a time.
    weights = dict(zip(present.tolist(), images / (len(present) * counts), strict=True))
    forest = RandomForestClassifier(
        class_weight=weights if _weight(how) else None,
        random_state=how.seed,
        n_jobs=jobs,
        max_leaf_nodes=most_leaves(images, len(present), trees),
        warm_start=True,
        **options,
    )
    if most < MOST_TREES:  # a trial
        return forest.set_params(n_estimators=trees).fit(features, labels).set_params(n_jobs=None)
    with progress_bar(trees, f"random forest on {images} images", "tree") as bar:
        for grown in range(TREES_AT_ONCE, trees + 1, TREES_AT_ONCE):
            forest.set_params(n_estimators=grown).fit(features, labels)
            bar.update(TREES_AT_ONCE)
    # Its threads add up its trees' votes in the order in which they finish.
    return forest.set_params(n_jobs=None, warm_start=False)
