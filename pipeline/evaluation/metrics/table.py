"""The table of metrics: how each is called, which way is better, and how it is computed.

An entry of `METRICS` is all that a metric needs: `measure` and `compare` go through the table, the
reports list what they hold, and readers show what is listed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from pipeline.evaluation.metrics import intervals, precision_recall, scores
from pipeline.evaluation.metrics.precision_recall import AveragePrecision, average_precision
from pipeline.evaluation.metrics.scores import Answers, Floats, Ints
from pipeline.params import Evaluate
from pipeline.progress import watched

_CALIBRATED_DRAWS = 500
_Z = float(ndtri(0.975))
_BOTH_KINDS = (intervals.percentile_interval, intervals.basic_interval)


@dataclass(frozen=True, eq=False)
class Scored:
    """A model on n images of k classes, reduced to what all metrics are computed from.

    It holds some vectors of n values and no posteriors, so that many models can be kept for
    comparison. Its bootstrap is drawn once, however many comparisons it is part of.

    Attributes:
        answers: what the metrics of counts and means are made of.
        curves: average precision of each class.
        how: seed, resamples and bins.
    """

    answers: Answers
    curves: AveragePrecision
    how: Evaluate

    @classmethod
    def of(cls, labels: npt.NDArray[np.integer], probabilities: Floats, how: Evaluate) -> "Scored":
        """Reduce n class numbers and n x k posteriors.

        Raises:
            PipelineError: there are no rows, or a posterior is not a number.
        """
        scores.check_posteriors(probabilities, "test images to judge by", "split.test")
        return cls(
            scores.answers(labels, probabilities), average_precision(labels, probabilities), how
        )

    def equals(self, other: "Scored") -> bool:
        """Whether no metric can distinguish the two, on these images or on resamples of them."""
        parts = ("predicted", "confidence", "loss", "brier", "place")
        return all(
            np.array_equal(getattr(self.answers, part), getattr(other.answers, part))
            for part in parts
        ) and np.array_equal(self.curves.influence, other.curves.influence)

    @cached_property
    def resampled(self) -> dict[str, Floats]:
        """Each bootstrapped metric on each resample, by name."""
        statistics = {one.name: one.resampled for one in METRICS if one.resampled}
        parts: dict[str, list[Floats]] = {name: [] for name in statistics}
        how = self.how
        resamples = intervals.stratified_resamples(
            self.answers.labels, how.bootstrap_resamples, how.seed
        )
        for rows in watched(resamples, how.bootstrap_resamples, "bootstrap", "resample"):
            block = Resamples(self.answers, rows, how.calibration_bins)
            for name, statistic in statistics.items():
                parts[name].append(statistic(block))
        return {name: np.concatenate(blocks) for name, blocks in parts.items()}


@dataclass(frozen=True, eq=False)
class Resamples:
    """Some bootstrap resamples of n images.

    Attributes:
        answers: on all images.
        rows: r x n, the images that each of r resamples holds.
        bins: of confidence.
    """

    answers: Answers
    rows: npt.NDArray[np.intp]
    bins: int

    @cached_property
    def hits(self) -> Ints:
        """Count the right answers of each class: r x k."""
        k = self.answers.class_count
        # Wrong answers count into a class number k of their own, dropped here.
        hit_class = np.where(self.answers.right, self.answers.labels, k)
        return _count_by_row(hit_class[self.rows], k + 1)[:, :k]

    @cached_property
    def predictions(self) -> Ints:
        """Count how often each class was the answer: r x k."""
        return _count_by_row(self.answers.predicted[self.rows], self.answers.class_count)

    @cached_property
    def calibration_error(self) -> Floats:
        """Compute the expected calibration error of each resample: r."""
        gap = self.answers.right - self.answers.confidence
        bin_of = scores.calibration_bin(self.answers.confidence, self.bins)
        gaps = _count_by_row(bin_of[self.rows], self.bins, gap[self.rows])
        return np.asarray(np.abs(gaps).sum(axis=1) / self.rows.shape[1])


class Difference(Protocol):
    """Computes the interval of first minus second on the same images, given that difference."""

    def __call__(
        self, first: Scored, second: Scored, value: float, confidence: float = 0.95
    ) -> Floats:
        """Return low, high."""


@dataclass(frozen=True)
class Metric:
    """A metric of a model on a set of images, with 95 % intervals.

    Attributes:
        name: key in reports.
        title: for people.
        judges: 'answers', or 'confidence': the metrics that a temperature is judged by.
        lower_is_better: which way is better.
        value: of a model.
        interval: of a model's value: low, high.
        difference: interval of first minus second on the same images, given that difference.
        largest: what a value can be at most; the least is 0.
        difference_at: the same at any confidence; None where there is only that of 95 %.
        resampled: the metric on each of r resamples, where an interval is made of a bootstrap.
    """

    name: str
    title: str
    judges: Literal["answers", "confidence"]
    lower_is_better: bool
    value: Callable[[Scored], float]
    interval: Callable[[Scored, float], Floats]
    difference: Callable[[Scored, Scored, float], Floats]
    largest: float = 1.0
    difference_at: Difference | None = None
    resampled: Callable[[Resamples], Floats] | None = None

    @property
    def noun(self) -> str:
        """The title within a sentence."""
        return self.title[0].lower() + self.title[1:]


def proportion(
    name: str, title: str, succeeds: Callable[[Answers], npt.NDArray[np.bool_]]
) -> Metric:
    """Make a metric that is the share of images with a success.

    Intervals are Wilson's, those of differences Bonett and Price's.
    """

    def interval(model: Scored, _: float) -> Floats:
        success = succeeds(model.answers)
        return intervals.wilson(success.sum(), np.asarray(len(success)))

    def difference(first: Scored, second: Scored, value: float, confidence: float = 0.95) -> Floats:
        del value
        one, two = succeeds(first.answers), succeeds(second.answers)
        return intervals.paired_proportions(
            (one & ~two).sum(), (two & ~one).sum(), np.asarray(len(one)), confidence
        )

    return Metric(
        name,
        title,
        judges="answers",
        lower_is_better=False,
        value=lambda model: float(succeeds(model.answers).mean()),
        interval=interval,
        difference=difference,
        difference_at=difference,
    )


def mean_loss(
    name: str, title: str, of_image: Callable[[Answers], Floats], largest: float
) -> Metric:
    """Make a metric of confidence that is the mean of a loss per image; intervals are Hall's."""

    def interval(model: Scored, _: float) -> Floats:
        return intervals.mean_interval(of_image(model.answers), 0.0, largest)

    def difference(first: Scored, second: Scored, _: float) -> Floats:
        losses = of_image(first.answers) - of_image(second.answers)
        return intervals.mean_interval(losses, -largest, largest)

    return Metric(
        name,
        title,
        judges="confidence",
        lower_is_better=True,
        value=lambda model: float(of_image(model.answers).mean()),
        interval=interval,
        difference=difference,
        largest=largest,
    )


def mean_over_classes(
    name: str, title: str, of_counts: Callable[[Ints, Ints, Ints], Floats]
) -> Metric:
    """Make a metric that is a mean over classes.

    Intervals are of a bootstrap stratified by class. They reach at least as far as Wilson's, those
    of differences as Bonett and Price's, for the effective number of images: a bootstrap of a
    result without mistakes is a point.

    Args:
        name: key in reports.
        title: for people.
        of_counts: of right answers (r x k), images (k) and predictions (r x k) of each class; r
            resamples, or none of these axes.
    """

    def value(model: Scored) -> float:
        given = model.answers
        return float(of_counts(given.hits, given.support, given.predictions))

    def interval(model: Scored, value: float) -> Floats:
        given, support = model.answers, model.answers.support
        balanced = float(scores.balanced_accuracy(given.hits, support))
        trials = np.asarray(intervals.effective_images(support[support > 0]))
        arms = intervals.wilson(balanced * trials, trials) - balanced
        drawn = intervals.percentile_interval(model.resampled[name], value)
        return intervals.widen(drawn, value, arms)

    return Metric(
        name,
        title,
        judges="answers",
        lower_is_better=False,
        value=value,
        interval=interval,
        difference=partial(difference_of_class_means, name),
        difference_at=partial(difference_of_class_means, name),
        resampled=lambda block: of_counts(block.hits, block.answers.support, block.predictions),
    )


def difference_of_class_means(
    name: str, first: Scored, second: Scored, value: float, confidence: float = 0.95
) -> Floats:
    """Return the interval of a metric of `mean_over_classes`, first minus second.

    Args:
        name: of the metric.
        first: a model.
        second: another one, on the same images.
        value: the difference.
        confidence: how often the interval holds the truth, in (0, 1).
    """
    drawn = first.resampled[name] - second.resampled[name]
    interval = intervals.percentile_interval(drawn, value, confidence)
    arms = _balanced_arms(first.answers, second.answers, confidence)
    return intervals.widen(interval, value, arms)


def _balanced_arms(one: Answers, two: Answers, confidence: float) -> Floats:
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


def _ece_value(model: Scored) -> float:
    return scores.expected_calibration_error(model.answers, model.how.calibration_bins)


def _ece_interval(model: Scored, value: float) -> Floats:
    """Return the mirrored bootstrap interval, from 0 where the model may well be calibrated.

    That is where a model whose answers are right exactly as often as their confidence says would
    show this much by chance in at least 2.5 % of test sets.

    Mirroring takes out the bias upwards, and on few images more than all of it: the interval would
    end at the figure itself, or hold too little above it. So it reaches at least as far up as that
    of the mean of s x (right - confidence), where s is the sign of an image's bin. With the true
    signs this mean is an unbiased estimate, and never larger than the figure.
    """
    low, high = intervals.basic_interval(model.resampled["ece"], value)
    given, bins = model.answers, model.how.calibration_bins
    confidence, bin_of = given.confidence, scores.calibration_bin(given.confidence, bins)
    gap = given.right - confidence
    signs = np.sign(np.bincount(bin_of, weights=gap, minlength=bins))
    high = max(high, value + _Z * (signs[bin_of] * gap).std() / np.sqrt(len(gap)))
    generator = np.random.default_rng(model.how.seed)
    calibrated = []
    for _ in range(_CALIBRATED_DRAWS):
        gap = (generator.random(len(bin_of)) < confidence) - confidence
        sums = np.bincount(bin_of, weights=gap, minlength=bins)
        calibrated.append(np.abs(sums).sum() / len(gap))
    return np.asarray([0.0 if value <= np.quantile(calibrated, 0.975) else low, high])


def _ece_difference(first: Scored, second: Scored, value: float) -> Floats:
    """Return an interval that both kinds of bootstrap and the models' own intervals agree with.

    Noise pushes both errors up, the one of the better calibrated model more, by an amount that
    the resamples do not show. The models' own intervals know how much error a calibrated model may
    show.
    """
    moved = first.resampled["ece"] - second.resampled["ece"]
    ends = [interval(moved, value) for interval in _BOTH_KINDS]
    errors = _ece_value(first), _ece_value(second)
    own = [
        (error, _ece_interval(model, error))
        for model, error in zip((first, second), errors, strict=True)
    ]
    ends.append(intervals.difference_of(own[0], own[1]))
    return np.asarray([min(low for low, _ in ends), max(high for _, high in ends)])


def _count_by_row(values: Ints, size: int, weights: Floats | None = None) -> npt.NDArray[Any]:
    """Count (or sum the weights of) each value 0 to size - 1 in each row: r x size."""
    rows = len(values)
    flat = (values + size * np.arange(rows)[:, None]).ravel()
    flat_weights = None if weights is None else weights.ravel()
    return np.bincount(flat, weights=flat_weights, minlength=rows * size).reshape(rows, size)


METRICS: tuple[Metric, ...] = (
    proportion("accuracy", "Accuracy", lambda given: given.place < 1),
    mean_over_classes(
        "balanced_accuracy",
        "Balanced accuracy",
        lambda hits, support, _: scores.balanced_accuracy(hits, support),
    ),
    mean_over_classes("macro_f1", "Macro-F1", scores.macro_f1),
    Metric(
        "average_precision",
        "Average precision",
        judges="answers",
        lower_is_better=False,
        value=lambda model: model.curves.macro,
        interval=lambda model, _: precision_recall.macro_interval(model.curves),
        difference=lambda one, two, _: precision_recall.difference_interval(one.curves, two.curves),
    ),
    mean_loss("nll", "NLL, nats", lambda given: given.loss, scores.LARGEST_LOSS),
    mean_loss("brier", "Brier score", lambda given: given.brier, scores.LARGEST_BRIER),
    Metric(
        "ece",
        "Calibration error",
        judges="confidence",
        lower_is_better=True,
        value=_ece_value,
        interval=_ece_interval,
        difference=_ece_difference,
        resampled=lambda block: block.calibration_error,
    ),
)


def metric_named(name: str) -> Metric:
    """Return a metric of `METRICS`."""
    return next(metric for metric in METRICS if metric.name == name)


def metrics_of(class_count: int, how: Evaluate) -> tuple[Metric, ...]:
    """Return the metrics of a set of `class_count` classes, in the order of reports.

    Top-k accuracy is left out where k is not below the number of classes: it would always be 1.
    """
    accuracy, *others = METRICS
    return (accuracy, *(_top_k(k) for k in how.top_k if k < class_count), *others)


def _top_k(k: int) -> Metric:
    return proportion(f"top_{k}_accuracy", f"Top-{k} accuracy", lambda given: given.place < k)
