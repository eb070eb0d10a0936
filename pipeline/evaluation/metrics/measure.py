"""Metric blocks of the reports: every figure with its 95 % interval, and paired comparisons."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from pipeline.errors import PipelineError
from pipeline.evaluation.metrics import definitions as metrics
from pipeline.evaluation.metrics import intervals, precision_recall
from pipeline.evaluation.metrics.definitions import Answers, Floats, Ints
from pipeline.evaluation.metrics.precision_recall import AveragePrecision, average_precision
from pipeline.params import Evaluate

_CALIBRATED_DRAWS = 500
_BOTH_KINDS = (intervals.percentile_interval, intervals.basic_interval)
_MEANS_OVER_CLASSES = ("balanced_accuracy", "macro_f1", "average_precision")
# What a value can be at most; the least is 0.
_LARGEST = {"nll": metrics.LARGEST_LOSS, "brier": metrics.LARGEST_BRIER}

Block = dict[str, Any]


def metric_names(class_count: int, how: Evaluate) -> tuple[str, ...]:
    """Return the names of the metrics of a block, in order.

    Top-k accuracy is left out where k is not below the number of classes: it would always be 1.
    """
    top = (f"top_{k}_accuracy" for k in how.top_k if k < class_count)
    return ("accuracy", *top, *_MEANS_OVER_CLASSES, "nll", "brier", "ece")


def measure(
    labels: npt.NDArray[np.integer],
    probabilities: Floats,
    classes: Sequence[str],
    how: Evaluate,
) -> Block:
    """Judge one model on one set.

    Accuracy, top-k accuracy, and precision, recall and F1 of a class get Wilson's interval, the
    means NLL and Brier's score Hall's, average precision that of the jackknife, the others that
    of a bootstrap stratified by class. For means over classes it reaches at least as far as
    Wilson's for the effective number of images: it does not collapse when there are no mistakes.
    ECE's starts at 0 where a calibrated model might show as much.

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
    given = metrics.answers(labels, probabilities)
    curves = average_precision(given.labels, probabilities)
    names = metric_names(given.class_count, how)
    value = _values(given, curves, names, how)
    drawn = _resampled(given, how)
    support = given.support
    interval = {
        name: intervals.percentile_interval(drawn[name], value[name])
        for name in ("balanced_accuracy", "macro_f1")
    }
    for name, right in _proportions(given, names).items():
        interval[name] = intervals.wilson(right.sum(), np.asarray(len(right)))
    for name, values in _means(given).items():
        interval[name] = intervals.mean_interval(values, 0.0, _LARGEST[name])
    interval["average_precision"] = precision_recall.macro_interval(curves)
    interval["ece"] = _ece_interval(given, drawn["ece"], value["ece"], how)
    balanced = value["balanced_accuracy"]
    trials = np.asarray(intervals.effective_images(support[support > 0]))
    arms = intervals.wilson(balanced * trials, trials) - balanced
    for name in ("balanced_accuracy", "macro_f1"):
        interval[name] = intervals.widen(interval[name], value[name], arms)
    block: Block = {"images": len(given.labels)}
    for name in names:
        block[name] = intervals.figure(
            value[name], np.clip(interval[name], 0.0, _LARGEST.get(name, 1.0))
        )
    block["per_class"] = _per_class(given, curves, classes)
    return block


def compare(labels: npt.NDArray[np.integer], first: Floats, second: Floats, how: Evaluate) -> Block:
    """Subtract the metrics of `second` from those of `first`, on the same rows.

    The intervals of accuracy and top-k accuracy are Bonett and Price's, those of NLL and Brier's
    score Hall's for the mean difference, that of average precision the jackknife's, the others
    are paired bootstraps: of both kinds for ECE, and as wide as the models' own intervals ask; for
    means over classes as wide as Bonett and Price's for the effective number of images. The
    p-value is McNemar's, exact: how often a fair coin would share the images that only one model
    gets right at least this unevenly. Equal posteriors are one model: the difference is 0
    without doubt.

    Returns:
        {metric: {"value": first - second, "ci95": [low, high]}, ..., "mcnemar": {"only_first":
        images that only the first gets right, "only_second": ..., "p_value": p}}
    """
    _check(labels, first)
    _check(labels, second)
    one, two = metrics.answers(labels, first), metrics.answers(labels, second)
    names = metric_names(one.class_count, how)
    curves_one, curves_two = average_precision(labels, first), average_precision(labels, second)
    value_one = _values(one, curves_one, names, how)
    value_two = _values(two, curves_two, names, how)
    value = {name: value_one[name] - value_two[name] for name in names}
    if np.array_equal(first, second):
        interval = {name: np.zeros(2) for name in names}
    else:
        interval = _difference_intervals(one, two, value, how)
        interval["average_precision"] = precision_recall.difference_interval(curves_one, curves_two)
        arms = _balanced_arms(one, two)
        for name in ("balanced_accuracy", "macro_f1"):
            interval[name] = intervals.widen(interval[name], value[name], arms)
    block: Block = {name: intervals.figure(value[name], interval[name]) for name in names}
    only_one, only_two = int((one.right & ~two.right).sum()), int((two.right & ~one.right).sum())
    block["mcnemar"] = {
        "only_first": only_one,
        "only_second": only_two,
        "p_value": mcnemar(only_one, only_two),
    }
    return block


def macro_f1_interval(
    labels: npt.NDArray[np.integer],
    first: Floats,
    second: Floats,
    how: Evaluate,
    confidence: float,
) -> Floats:
    """Return the interval of the macro-F1 of `first` minus that of `second`, as in `compare`.

    There are as many resamples in its tails as at 95 %.

    Args:
        labels: n class numbers.
        first: n x k posteriors.
        second: n x k posteriors.
        how: seed and resamples (for 95 %).
        confidence: how often the interval holds the truth, in (0, 1).

    Returns:
        low, high.
    """
    if np.array_equal(first, second):
        return np.zeros(2)
    more = max(round(how.bootstrap_resamples * 0.05 / (1 - confidence)), how.bootstrap_resamples)
    how = how.model_copy(update={"bootstrap_resamples": more})
    one, two = metrics.answers(labels, first), metrics.answers(labels, second)
    drawn = _resampled(one, how)["macro_f1"] - _resampled(two, how)["macro_f1"]
    value = _macro_f1(one) - _macro_f1(two)
    interval = intervals.percentile_interval(drawn, value, confidence)
    return intervals.widen(interval, value, _balanced_arms(one, two, confidence))


def _difference_intervals(
    one: Answers, two: Answers, value: dict[str, float], how: Evaluate
) -> dict[str, Floats]:
    """Return the interval of each difference; those of means over classes may still collapse."""
    drawn_one, drawn_two = _resampled(one, how), _resampled(two, how)
    interval = {
        name: intervals.percentile_interval(drawn_one[name] - drawn_two[name], value[name])
        for name in ("balanced_accuracy", "macro_f1")
    }
    # Noise pushes both errors up, the one of the better calibrated model more; how much more the
    # resamples cannot tell. The interval reaches as far as either of the two kinds, and as the
    # models' own intervals say, which know how much error a calibrated model may show.
    moved = drawn_one["ece"] - drawn_two["ece"]
    ends = [f(moved, value["ece"]) for f in _BOTH_KINDS]
    ends.append(
        intervals.difference_of(_own_ece(one, drawn_one, how), _own_ece(two, drawn_two, how))
    )
    interval["ece"] = np.asarray([min(low for low, _ in ends), max(high for _, high in ends)])
    right_two = _proportions(two, tuple(value))
    for name, right in _proportions(one, tuple(value)).items():
        only_one, only_two = right & ~right_two[name], right_two[name] & ~right
        interval[name] = intervals.paired_proportions(
            only_one.sum(), only_two.sum(), np.asarray(len(right))
        )
    means_two = _means(two)
    for name, values in _means(one).items():
        most = _LARGEST[name]
        interval[name] = intervals.mean_interval(values - means_two[name], -most, most)
    return interval


def _own_ece(given: Answers, drawn: dict[str, Floats], how: Evaluate) -> tuple[float, Floats]:
    """Return a model's calibration error and its interval, which holds it."""
    value = metrics.expected_calibration_error(given, how.calibration_bins)
    return value, _ece_interval(given, drawn["ece"], value, how)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return McNemar's exact two-sided p-value; 1 where the models never disagree."""
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


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


def _proportions(given: Answers, names: Sequence[str]) -> dict[str, npt.NDArray[np.bool_]]:
    """Return accuracy and the top-k accuracies of `names` as one success or failure per image."""
    within = {"accuracy": 1}
    within |= {name: int(name.split("_")[1]) for name in names if name.startswith("top_")}
    return {name: given.place < k for name, k in within.items()}


def _means(given: Answers) -> dict[str, Floats]:
    """Return the metrics that are the mean of one value per image."""
    return {"nll": given.loss, "brier": given.brier}


def _values(
    given: Answers, curves: AveragePrecision, names: Sequence[str], how: Evaluate
) -> dict[str, float]:
    hits, support = given.hits, given.support
    value = {name: float(right.mean()) for name, right in _proportions(given, names).items()}
    value |= {name: float(values.mean()) for name, values in _means(given).items()}
    value["balanced_accuracy"] = float(metrics.balanced_accuracy(hits, support))
    value["macro_f1"] = _macro_f1(given)
    value["average_precision"] = curves.macro
    value["ece"] = metrics.expected_calibration_error(given, how.calibration_bins)
    return value


def _macro_f1(given: Answers) -> float:
    return float(metrics.macro_f1(given.hits, given.support, given.predictions))


def _resampled(given: Answers, how: Evaluate) -> dict[str, Floats]:
    """Compute what needs a bootstrap on each resample."""
    k, bins = given.class_count, how.calibration_bins
    # Wrong answers count into a class number k of their own, dropped below.
    hit_class = np.where(given.right, given.labels, k)
    gap = given.right - given.confidence
    bin_of = metrics.calibration_bin(given.confidence, bins)
    support = given.support
    parts: dict[str, list[Floats]] = {"balanced_accuracy": [], "macro_f1": [], "ece": []}
    for rows in intervals.stratified_resamples(given.labels, how.bootstrap_resamples, how.seed):
        hits = _count_by_row(hit_class[rows], k + 1)[:, :k]
        predictions = _count_by_row(given.predicted[rows], k)
        parts["balanced_accuracy"].append(metrics.balanced_accuracy(hits, support))
        parts["macro_f1"].append(metrics.macro_f1(hits, support, predictions))
        gaps = _count_by_row(bin_of[rows], bins, gap[rows])
        parts["ece"].append(np.abs(gaps).sum(axis=1) / rows.shape[1])
    return {name: np.concatenate(blocks) for name, blocks in parts.items()}


def _count_by_row(values: Ints, size: int, weights: Floats | None = None) -> npt.NDArray[Any]:
    """Count (or sum the weights of) each value 0 to size - 1 in each row: r x size."""
    rows = len(values)
    flat = (values + size * np.arange(rows)[:, None]).ravel()
    flat_weights = None if weights is None else weights.ravel()
    return np.bincount(flat, weights=flat_weights, minlength=rows * size).reshape(rows, size)


def _balanced_arms(one: Answers, two: Answers, confidence: float = 0.95) -> Floats:
    """Return how far the closed-form interval of the difference of two mean recalls reaches."""
    present = one.support > 0
    support = one.support[present]
    first, second = (
        (np.bincount(one.labels[only], minlength=one.class_count)[present] / support).mean()
        for only in (one.right & ~two.right, two.right & ~one.right)
    )
    trials = intervals.effective_images(support)
    interval = intervals.paired_proportions(
        np.asarray(first * trials), np.asarray(second * trials), np.asarray(trials), confidence
    )
    return np.asarray(interval - (first - second))


def _ece_interval(given: Answers, resampled: Floats, value: float, how: Evaluate) -> Floats:
    """Return the mirrored bootstrap interval, from 0 where the model may well be calibrated.

    That is where a model whose answers are right exactly as often as their confidence says would
    show this much by chance in at least 2.5 % of test sets.
    """
    low, high = intervals.basic_interval(resampled, value)
    generator = np.random.default_rng(how.seed)
    bin_of = metrics.calibration_bin(given.confidence, how.calibration_bins)
    calibrated = []
    for _ in range(_CALIBRATED_DRAWS):
        gap = (generator.random(len(bin_of)) < given.confidence) - given.confidence
        sums = np.bincount(bin_of, weights=gap, minlength=how.calibration_bins)
        calibrated.append(np.abs(sums).sum() / len(gap))
    return np.asarray([0.0 if value <= np.quantile(calibrated, 0.975) else low, high])


def _per_class(given: Answers, curves: AveragePrecision, classes: Sequence[str]) -> Block:
    hits, support, predictions = given.hits, given.support, given.predictions
    figures = {
        "precision": (metrics.precision(hits, predictions), intervals.wilson(hits, predictions)),
        "recall": (metrics.recall(hits, support), intervals.wilson(hits, support)),
        "f1": (
            metrics.f1(hits, support, predictions),
            intervals.f1_interval(hits, support, predictions),
        ),
        "average_precision": (curves.value, precision_recall.class_intervals(curves)),
    }
    return {
        name: {"support": int(support[row])}
        | {key: intervals.figure(value[row], ci[row]) for key, (value, ci) in figures.items()}
        for row, name in enumerate(classes)
    }
