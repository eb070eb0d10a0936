"""Which classifier, and which of its settings: chosen by cross-validation on training images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from sklearn.preprocessing import StandardScaler

from pipeline.errors import PipelineError
from pipeline.evaluation.baseline._budget import capped
from pipeline.evaluation.baseline._estimators import (
    SETTINGS,
    Features,
    Labels,
    Options,
    fit_for_trial,
    one_thread,
)
from pipeline.params import Baseline
from pipeline.progress import progress_bar

Metric = Literal["macro_f1", "balanced_accuracy", "accuracy"]

_FOLDS = 3
# Beyond it one trial takes minutes, but of a linear discriminant, which is solved in one step.
_MOST_TUNED_CLASSES = 200
# A support vector machine is one for each pair of classes.
_MOST_SVM_CLASSES = 100
_SCORES = {
    "macro_f1": lambda labels, said: f1_score(labels, said, average="macro", zero_division=0.0),
    "balanced_accuracy": balanced_accuracy_score,
    "accuracy": accuracy_score,
}


@dataclass(frozen=True)
class Trial:
    """A classifier with settings.

    Attributes:
        classifier: by name.
        settings: scikit-learn's arguments.
        score: what its answers in the left-out parts reach; None where it was not tried.
    """

    classifier: str
    settings: Options
    score: float | None = None


def choose(
    features: Features,
    labels: Labels,
    classes: Sequence[str],
    how: Baseline,
    *,
    metric: Metric,
    jobs: int,
) -> tuple[Trial, list[Trial]]:
    """Return the best of the settings, and all that were tried.

    Each is trained on two thirds of at most `how.tuning_rows` rows and answers the last third,
    three times; what is chosen depends on rows, labels and the seed, not on time. With many
    classes, one named classifier is taken as it is, and `auto` is a linear discriminant.

    Args:
        features: n x d.
        labels: n class numbers.
        classes: names, for messages.
        how: seed, classifier, class weights and limits.
        metric: by which they are compared.
        jobs: threads that grow a forest.

    Raises:
        PipelineError: the classifier that was asked for does not suit so many classes, or so few
            rows of one.
    """
    candidates = [
        Trial(name, options)
        for name in _suitable(labels, classes, how)
        for options in SETTINGS[name]
    ]
    present = np.unique(labels)
    many = len(present) > _MOST_TUNED_CLASSES
    if many and candidates[0].classifier != "linear_discriminant":
        return candidates[0], []
    rows = capped(labels, how.rows_per_class, max(how.tuning_rows, _FOLDS * len(present)), how.seed)
    features, labels = features[rows], labels[rows]
    folds = _folds(labels, how.seed)
    tried = []
    bar_of = progress_bar(len(candidates) * _FOLDS, "settings of the baseline", "fit")
    with bar_of as bar, one_thread():
        for one in candidates:
            said = np.empty_like(labels)
            for fold in range(_FOLDS):
                left, out = folds != fold, folds == fold
                scaler = StandardScaler().fit(features[left])
                model = fit_for_trial(
                    one.classifier,
                    one.settings,
                    scaler.transform(features[left]),
                    labels[left],
                    how=how,
                    jobs=jobs,
                )
                said[out] = model.predict(scaler.transform(features[out]))
                bar.update()
            # Rounded: the last digits of a sum may differ between machines.
            tried.append(replace(one, score=round(float(_SCORES[metric](labels, said)), 6)))
    return max(tried, key=lambda trial: trial.score or 0.0), tried


def _suitable(labels: Labels, classes: Sequence[str], how: Baseline) -> list[str]:
    """Return the classifiers that `how` asks for and that suit so many classes."""
    counts = np.bincount(labels, minlength=len(classes))
    present = np.count_nonzero(counts)
    smallest = int(np.where(counts > 0, counts, counts.max()).argmin())
    if how.classifier == "svm":
        if present > _MOST_SVM_CLASSES:
            raise PipelineError(
                f"baseline.classifier svm: expected at most {_MOST_SVM_CLASSES} classes, found"
                f" {present}; choose auto or linear_discriminant"
            )
        if counts[smallest] < 2:
            raise PipelineError(
                "baseline.classifier svm needs 2 training images of each class for its"
                f" probabilities, found 1 of '{classes[smallest]}'; add images or choose"
                " random_forest"
            )
    if how.classifier != "auto":
        return [how.classifier]
    if present > _MOST_TUNED_CLASSES:
        return ["linear_discriminant"]
    fits = present <= _MOST_SVM_CLASSES and counts[smallest] >= 2
    return [name for name in SETTINGS if name != "svm" or fits]


def _folds(labels: Labels, seed: int) -> npt.NDArray[np.intp]:
    """Deal the rows of each class out to folds: their numbers."""
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    # One class after the other, so that rows of rare classes too go to different folds.
    folds = np.empty(len(labels), np.intp)
    folds[order] = np.arange(len(labels)) % _FOLDS
    return folds
