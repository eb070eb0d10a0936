"""Metric blocks of the reports: every figure with its 95 % interval, and paired comparisons."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr

from pipeline.errors import PipelineError
from pipeline.evaluation.metrics import intervals, precision_recall, scores
from pipeline.evaluation.metrics.scores import Floats
from pipeline.evaluation.metrics.table import Scored, metric_named, metrics_of
from pipeline.params import Evaluate

Block = dict[str, Any]


def measure(
    labels: npt.NDArray[np.integer],
    probabilities: Floats,
    classes: Sequence[str],
    how: Evaluate,
) -> Block:
    """Judge one model on one set by each metric of the table.

    Precision, recall and F1 of a class get Wilson's interval, its average precision that of the
    jackknife.

    Args:
        labels: n class numbers.
        probabilities: n x k posteriors.
        classes: k names.
        how: seed, resamples, bins and the k of top-k accuracy.

    Returns:
        {"images": n, metric: {"value": v, "ci95": [low, high]}, ..., "per_class": {name:
        {"support": images, "precision": ..., "recall": ..., "f1": ..., "average_precision":
        ...}}}. A value is None where it is not defined, as the precision of a class never
        predicted.

    Raises:
        PipelineError: there are no rows, or a posterior is not a number.
    """
    _check(labels, probabilities)
    model = Scored(labels, probabilities, how)
    block: Block = {"images": len(labels)}
    for metric in metrics_of(probabilities.shape[1], how):
        value = metric.value(model)
        interval = np.clip(metric.interval(model, value), 0.0, metric.largest)
        block[metric.name] = intervals.figure(value, interval)
    return block | {"per_class": _per_class(model, classes)}


def compare(labels: npt.NDArray[np.integer], first: Floats, second: Floats, how: Evaluate) -> Block:
    """Subtract the metrics of `second` from those of `first`, on the same rows.

    The p-value is McNemar's, exact: how often a fair coin would share the images that only one
    model gets right at least this unevenly. Equal posteriors are one model: the difference is 0
    without doubt.

    Args:
        labels: n class numbers.
        first: n x k posteriors.
        second: n x k posteriors.
        how: as in `measure`.

    Returns:
        {metric: {"value": first - second, "ci95": [low, high]}, ..., "mcnemar": {"only_first":
        images that only the first gets right, "only_second": ..., "p_value": p}}
    """
    _check(labels, first)
    _check(labels, second)
    one, two = Scored(labels, first, how), Scored(labels, second, how)
    equal = np.array_equal(first, second)
    block: Block = {}
    for metric in metrics_of(first.shape[1], how):
        value = metric.value(one) - metric.value(two)
        interval = np.zeros(2) if equal else metric.difference(one, two, value)
        block[metric.name] = intervals.figure(value, interval)
    only_one = int((one.answers.right & ~two.answers.right).sum())
    only_two = int((two.answers.right & ~one.answers.right).sum())
    block["mcnemar"] = {
        "only_first": only_one,
        "only_second": only_two,
        "p_value": mcnemar(only_one, only_two),
    }
    return block


def difference_interval(
    labels: npt.NDArray[np.integer],
    first: Floats,
    second: Floats,
    how: Evaluate,
    confidence: float,
) -> Floats:
    """Return the interval of `how.metric` of `first` minus that of `second`, as in `compare`.

    There are as many resamples in its tails as at 95 %.

    Args:
        labels: n class numbers.
        first: n x k posteriors.
        second: n x k posteriors.
        how: the metric, seed and resamples (for 95 %).
        confidence: how often the interval holds the truth, in (0, 1).

    Returns:
        low, high.
    """
    if np.array_equal(first, second):
        return np.zeros(2)
    more = max(round(how.bootstrap_resamples * 0.05 / (1 - confidence)), how.bootstrap_resamples)
    how = how.model_copy(update={"bootstrap_resamples": more})
    one, two = Scored(labels, first, how), Scored(labels, second, how)
    metric = metric_named(how.metric)
    assert metric.difference_at
    value = metric.value(one) - metric.value(two)
    return metric.difference_at(one, two, value, confidence)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return McNemar's exact two-sided p-value; 1 where the models never disagree."""
    if only_first + only_second == 0:
        return 1.0
    # At 1/2 both tails of the binomial distribution are alike.
    tail = bdtr(min(only_first, only_second), only_first + only_second, 0.5)
    return min(1.0, 2 * float(tail))


def _check(labels: npt.NDArray[np.integer], probabilities: Floats) -> None:
    if len(labels) == 0:
        raise PipelineError(
            "expected test images to judge by, found none; raise split.test or add images"
        )
    bad = int((~np.isfinite(probabilities)).any(axis=1).sum())
    if bad:
        raise PipelineError(
            f"expected probabilities, found NaN or infinity for {bad} of {len(labels)} test"
            " images; the training diverged, lower its optimizer.lr"
        )


def _per_class(model: Scored, classes: Sequence[str]) -> Block:
    given, curves = model.answers, model.curves
    hits, support, predictions = given.hits, given.support, given.predictions
    figures = {
        "precision": (scores.precision(hits, predictions), intervals.wilson(hits, predictions)),
        "recall": (scores.recall(hits, support), intervals.wilson(hits, support)),
        "f1": (
            scores.f1(hits, support, predictions),
            intervals.f1_interval(hits, support, predictions),
        ),
        "average_precision": (curves.value, precision_recall.class_intervals(curves)),
    }
    return {
        name: {"support": int(support[row])}
        | {key: intervals.figure(value[row], ci[row]) for key, (value, ci) in figures.items()}
        for row, name in enumerate(classes)
    }
