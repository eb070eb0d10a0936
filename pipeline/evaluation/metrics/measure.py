"""Metric blocks of the reports: every figure with its 95 % interval, and paired comparisons."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import bdtr

from pipeline.evaluation.metrics import intervals, precision_recall, scores
from pipeline.evaluation.metrics.scores import Floats
from pipeline.evaluation.metrics.table import Scored, metric_named, metrics_of

Block = dict[str, Any]


def measure(model: Scored, classes: Sequence[str]) -> Block:
    """Judge one model on one set by each metric of the table.

    Precision, recall and F1 of a class get Wilson's interval, its average precision that of the
    jackknife.

    Args:
        model: its answers on n images of k classes.
        classes: k names.

    Returns:
        {"images": n, metric: {"value": v, "ci95": [low, high]}, ..., "per_class": {name:
        {"support": images, "precision": ..., "recall": ..., "f1": ..., "average_precision":
        ...}}}. A value is None where it is not defined, as the precision of a class never
        predicted.
    """
    block: Block = {"images": len(model.answers.labels)}
    for metric in metrics_of(len(classes), model.how):
        value = metric.value(model)
        interval = np.clip(metric.interval(model, value), 0.0, metric.largest)
        block[metric.name] = intervals.figure(value, interval)
    return block | {"per_class": _per_class(model, classes)}


def compare(first: Scored, second: Scored) -> Block:
    """Subtract the metrics of `second` from those of `first`, on the same images.

    The p-value is McNemar's, exact: how often a fair coin would share the images that only one
    model gets right at least this unevenly. Models that no metric can distinguish are one: the
    difference is 0 without doubt.

    Returns:
        {metric: {"value": first - second, "ci95": [low, high]}, ..., "same_answers": whether both
        name the same class for each image, "mcnemar": {"only_first": images that only the first
        gets right, "only_second": ..., "p_value": p}}
    """
    one, two = first.answers, second.answers
    equal = first.equals(second)
    block: Block = {}
    for metric in metrics_of(one.class_count, first.how):
        value = metric.value(first) - metric.value(second)
        interval = np.zeros(2) if equal else metric.difference(first, second, value)
        block[metric.name] = intervals.figure(value, interval)
    only_first = int((one.right & ~two.right).sum())
    only_second = int((two.right & ~one.right).sum())
    block["same_answers"] = bool(np.array_equal(one.predicted, two.predicted))
    block["mcnemar"] = {
        "only_first": only_first,
        "only_second": only_second,
        "p_value": mcnemar(only_first, only_second),
    }
    return block


def brier_difference(first: Scored, second: Scored) -> float:
    """Return the Brier score of `first` minus that of `second`; below 0, the first is better.

    Images count as `how.metric` lets them count: all alike for accuracy, else all classes that have
    images alike.
    """
    one, two = first.answers, second.answers
    differences = one.brier - two.brier
    if first.how.metric == "accuracy":
        return float(differences.mean())
    sums = np.bincount(one.labels, differences, one.class_count)
    there = one.support > 0
    return float((sums[there] / one.support[there]).mean())


def difference_interval(first: Scored, second: Scored, confidence: float) -> Floats:
    """Return the interval of `how.metric` of `first` minus that of `second`, as in `compare`.

    There are as many resamples in its tails as at 95 %.

    Args:
        first: a model.
        second: another one, on the same images.
        confidence: how often the interval holds the truth, in (0, 1).

    Returns:
        low, high.
    """
    if first.equals(second):
        return np.zeros(2)
    how = first.how
    more = max(round(how.bootstrap_resamples * 0.05 / (1 - confidence)), how.bootstrap_resamples)
    how = how.model_copy(update={"bootstrap_resamples": more})
    first, second = replace(first, how=how), replace(second, how=how)
    metric = metric_named(how.metric)
    assert metric.difference_at
    value = metric.value(first) - metric.value(second)
    return metric.difference_at(first, second, value, confidence)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return McNemar's exact two-sided p-value; 1 where the models never disagree."""
    if only_first + only_second == 0:
        return 1.0
    # At 1/2 both tails of the binomial distribution are alike.
    tail = bdtr(min(only_first, only_second), only_first + only_second, 0.5)
    return min(1.0, 2 * float(tail))


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
