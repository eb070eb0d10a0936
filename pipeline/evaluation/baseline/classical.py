"""A classical classifier on features: what any network must beat."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from pipeline.errors import PipelineError
from pipeline.params import Baseline
from pipeline.progress import progress_bar

Features = npt.NDArray[np.float32]

_MOST_TREES, _FEWEST_TREES, _TREES_AT_ONCE = 300, 10, 10
# Sums over classes for all trees: about a minute of two cores. 300 trees for 20,000 images of 3,000
# classes would take an hour.
_FOREST_SUMS = 1e11
# Each node of a tree holds a float64 per class: at 40,000 images of 100 classes, 8 GB in all.
_FOREST_BYTES = 2**30
_CALIBRATION_FOLDS = 5
# Enough to rank features by permutation without taking longer than the training.
_IMPORTANCE_ROWS = 500


def fit(
    features: Features,
    labels: npt.NDArray[np.integer],
    classes: Sequence[str],
    how: Baseline,
    jobs: int,
) -> Pipeline:
    """Train a classifier on standardised features.

    Args:
        features: n x d.
        labels: n class numbers.
        classes: names, for messages.
        how: seed, classifier and class weights.
        jobs: threads that grow a forest; the result does not depend on them.

    Raises:
        PipelineError: fewer than two classes, or too few images of one for an SVM's calibration.
    """
    counts = np.bincount(labels, minlength=len(classes))
    if np.count_nonzero(counts) < 2:
        raise PipelineError(
            "baseline: expected training images of at least 2 classes, found"
            f" {np.count_nonzero(counts)}; add images or lower split.val and split.test"
        )
    scaler, classifier = (
        StandardScaler(),
        _classifier(counts, features.shape[1], classes, how, jobs),
    )
    scaled, title = scaler.fit_transform(features), how.classifier.replace("_", " ")
    if isinstance(classifier, RandomForestClassifier):
        _grow(classifier, scaled, labels)
    else:
        with progress_bar(None, f"{title} on {len(labels)} images", "step"):
            classifier.fit(scaled, labels)
    return make_pipeline(scaler, classifier)


def _grow(
    forest: RandomForestClassifier, features: Features, labels: npt.NDArray[np.integer]
) -> None:
    """Grow all trees, some at a time: the same as at once."""
    whole = forest.n_estimators
    with progress_bar(whole, f"random forest on {len(labels)} images", "tree") as bar:
        for trees in range(_TREES_AT_ONCE, whole + 1, _TREES_AT_ONCE):
            forest.set_params(n_estimators=trees).fit(features, labels)
            bar.update(_TREES_AT_ONCE)
    # Its threads add up its trees' votes in the order in which they finish.
    forest.set_params(n_jobs=None, warm_start=False)


def posteriors(model: Pipeline, features: Features, class_count: int) -> npt.NDArray[np.float64]:
    """Return n x `class_count` posteriors; 0 for a class that had no training images."""
    result = np.zeros((len(features), class_count))
    result[:, model.classes_] = model.predict_proba(features)
    return result


def importances(
    model: Pipeline, features: Features, labels: npt.NDArray[np.integer], seed: int
) -> npt.NDArray[np.float64]:
    """Return how much each feature matters, d values.

    A forest's are its mean decreases in impurity, a logistic regression's the mean size of its
    coefficients; an SVM has neither, so that its are the accuracy lost on up to 500 training
    images when the feature is shuffled.
    """
    last = model[-1]
    if isinstance(last, RandomForestClassifier):
        return np.asarray(last.feature_importances_)
    if isinstance(last, LogisticRegression):
        return np.asarray(np.abs(last.coef_).mean(axis=0))
    rows = np.random.default_rng(seed).permutation(len(labels))[:_IMPORTANCE_ROWS]
    with progress_bar(None, "importance of the features", "step"):
        shuffled = permutation_importance(
            model, features[rows], labels[rows], n_repeats=1, random_state=seed
        )
    return np.asarray(shuffled.importances_mean)


def _count_trees(images: int, features: int, classes: int) -> int:
    """Return how many trees a forest may have to be grown in minutes, 10 to 300."""
    # At each level of a tree all images are split at each place, by sums over all classes.
    sums = images * math.log2(images) * math.sqrt(features) * classes
    affordable = int(_FOREST_SUMS / sums) // _TREES_AT_ONCE * _TREES_AT_ONCE
    return min(max(affordable, _FEWEST_TREES), _MOST_TREES)


def _most_leaves(images: int, classes: int, trees: int) -> int | None:
    """Return how many leaves a tree may have for the forest to stay small; None for any number."""
    # A tree of n leaves has 2n - 1 nodes.
    affordable = _FOREST_BYTES // (trees * 2 * classes * np.dtype(np.float64).itemsize)
    return None if images <= affordable else max(affordable, 2)


def _classifier(
    counts: npt.NDArray[np.integer],
    features: int,
    classes: Sequence[str],
    how: Baseline,
    jobs: int,
) -> Any:
    weight = "balanced" if how.class_weight == "balanced" else None
    if how.classifier == "random_forest":
        images = int(counts.sum())
        trees = _count_trees(images, features, len(counts))
        # As 'balanced', which scikit-learn does not want for trees that are grown some at a time.
        present = np.flatnonzero(counts)
        weights = dict(
            zip(present.tolist(), counts.sum() / (len(present) * counts[present]), strict=True)
        )
        return RandomForestClassifier(
            trees,
            class_weight=weights if weight else None,
            random_state=how.seed,
            n_jobs=jobs,
            max_leaf_nodes=_most_leaves(images, len(counts), trees),
            warm_start=True,
        )
    if how.classifier == "logistic_regression":
        return LogisticRegression(max_iter=2000, class_weight=weight, random_state=how.seed)
    smallest = int(np.where(counts > 0, counts, counts.max()).argmin())
    if counts[smallest] < 2:
        raise PipelineError(
            "baseline.classifier svm needs 2 training images of each class for its"
            f" probabilities, found 1 of '{classes[smallest]}'; add images or choose random_forest"
        )
    folds = StratifiedKFold(
        min(_CALIBRATION_FOLDS, int(counts[smallest])), shuffle=True, random_state=how.seed
    )
    machine = SVC(class_weight=weight, random_state=how.seed)
    return CalibratedClassifierCV(machine, ensemble=False, cv=folds)
