"""A classical classifier on features: what any network must beat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.errors import PipelineError
from pipeline.evaluation.baseline._budget import capped, most_rows
from pipeline.evaluation.baseline._estimators import Features, Labels, fit_estimator, one_thread
from pipeline.evaluation.baseline.choice import Metric, Trial, choose
from pipeline.params import Baseline
from pipeline.progress import progress_bar

# Enough to rank groups of features, in seconds.
_IMPORTANCE_ROWS, _SHUFFLES = 500, 5


@dataclass(frozen=True)
class Fitted:
    """A trained classifier, and how it was chosen.

    Attributes:
        model: takes features as they are.
        chosen: classifier and settings.
        tried: all that were compared; empty where there was no choice.
        rows: how many it was trained on.
    """

    model: Pipeline
    chosen: Trial
    tried: Sequence[Trial]
    rows: int


def training_rows(labels: Labels, features: int, how: Baseline) -> npt.NDArray[np.intp]:
    """Return the rows whose features are worth computing, in ascending order.

    Args:
        labels: class number of each training image.
        features: values of each image.
        how: seed and limits.

    Raises:
        PipelineError: fewer than two classes.
    """
    present = len(np.unique(labels))
    if present < 2:
        raise PipelineError(
            "baseline: expected training images of at least 2 classes, found"
            f" {present}; add images or lower split.val and split.test"
        )
    limit = most_rows(how.classifier, features, present)
    return capped(labels, how.rows_per_class, limit, how.seed)


def fit(
    features: Features,
    labels: Labels,
    classes: Sequence[str],
    how: Baseline,
    *,
    metric: Metric,
    jobs: int,
) -> Fitted:
    """Choose a classifier and its settings, and train it on standardised features.

    Args:
        features: n x d, of `training_rows`.
        labels: n class numbers.
        classes: names, for messages.
        how: seed, classifier, class weights and limits.
        metric: by which settings are compared.
        jobs: threads that grow a forest; the result does not depend on them.

    Raises:
        PipelineError: the classifier that was asked for does not suit so many classes, or so few
            images of one.
    """
    chosen, tried = choose(features, labels, classes, how, metric=metric, jobs=jobs)
    limit = most_rows(chosen.classifier, features.shape[1], len(np.unique(labels)))
    rows = capped(labels, how.rows_per_class, limit, how.seed)
    scaler = StandardScaler()
    scaled, title = scaler.fit_transform(features[rows]), chosen.classifier.replace("_", " ")
    with progress_bar(None, f"{title} on {len(rows)} images", "step"), one_thread():
        estimator = fit_estimator(
            chosen.classifier, chosen.settings, scaled, labels[rows], how=how, jobs=jobs
        )
    return Fitted(make_pipeline(scaler, estimator), chosen, tried, len(rows))


def posteriors(model: Pipeline, features: Features, class_count: int) -> npt.NDArray[np.float64]:
    """Return n x `class_count` posteriors; 0 for a class that had no training images."""
    result = np.zeros((len(features), class_count))
    result[:, model.classes_] = model.predict_proba(features)
    # float32 sums to 1 but for its last digits.
    return np.asarray(result / result.sum(axis=1, keepdims=True))


def importances(model: Pipeline) -> npt.NDArray[np.float64] | None:
    """Return how much each feature matters, d values; None of an SVM, which does not say.

    A forest's are its mean decreases in impurity; those of a logistic regression and of a linear
    discriminant are the mean sizes of its coefficients.
    """
    last = model[-1]
    if hasattr(last, "feature_importances_"):
        return np.asarray(last.feature_importances_)
    return np.abs(last.coef_).mean(axis=0) if hasattr(last, "coef_") else None


def group_losses(
    model: Pipeline,
    features: Features,
    labels: Labels,
    groups: Mapping[str, int],
    seed: int,
) -> dict[str, float]:
    """Return by how much accuracy falls when a group of features is of another image.

    The features of a group are shuffled together, over up to 500 of the rows and 5 times (Breiman
    2001, for groups): what other groups tell as well costs nothing.

    Args:
        model: takes features as they are.
        features: n x d, of images that did not train the model.
        labels: n class numbers.
        groups: how many columns belong to each, in their order; d in all.
        seed: of the shuffles.

    Returns:
        Of each group, a share of the rows; below 0 where chance was kind.
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(labels))[:_IMPORTANCE_ROWS]
    features, labels = features[rows], labels[rows]
    right = float((model.predict(features) == labels).mean())
    losses, start = {}, 0
    with progress_bar(len(groups), "importance of the features", "group") as bar:
        for name, width in groups.items():
            columns = slice(start, start + width)
            found = []
            for _ in range(_SHUFFLES):
                changed = features.copy()
                changed[:, columns] = features[rng.permutation(len(rows)), columns]
                found.append(float((model.predict(changed) == labels).mean()))
            losses[name] = right - float(np.mean(found))
            start += width
            bar.update()
    return losses
