import numpy as np
import pytest

from pipeline.evaluation.judging.gate import (
    AgainstBaseline,
    Loss,
    check_baseline,
    check_calibration,
    check_latency,
    check_loss,
    judge,
    skip_baseline,
)
from pipeline.evaluation.metrics.measure import brier_difference, compare
from pipeline.evaluation.metrics.table import Scored
from pipeline.evaluation.reports.words import number
from tests import reports

MINUS = "\N{MINUS SIGN}"


def figure(value, low, high):
    return {"value": value, "ci95": [low, high]}


def one_hot(predicted, classes):
    return np.eye(classes)[predicted]


@pytest.mark.parametrize(
    ("gain", "low", "high", "min_gain", "passed", "by_interval"),
    [
        (0.1, 0.02, 0.18, 0.0, True, True),
        (0.0, -0.05, 0.05, 0.0, False, False),
        (-0.1, -0.2, 0.0, 0.0, False, False),
        (0.05, 0.01, 0.09, 0.1, False, False),
        (0.007, -0.053, 0.069, 0.0, True, False),  # a coin toss
        (0.05, 0.0, 0.1, 0.0, True, False),  # no gain is possible too
    ],
)
def test_the_baseline_must_be_beaten(gain, low, high, min_gain, passed, by_interval):
    met = AgainstBaseline(0.7 + gain, 0.7, figure(gain, low, high))
    for baseline, expected in (("point", passed), ("interval", by_interval)):
        rules = reports.RULES.model_copy(
            update={"baseline": baseline, "min_gain_over_baseline": min_gain}
        )
        check = check_baseline(met, rules, reports.METRIC)
        assert check.passed == expected
        assert check.value == gain
        assert check.shown == (low > 0)
        assert f"register.baseline: {baseline}" in check.reason
        assert f"min_gain_over_baseline, {min_gain:g}" in check.reason


def test_a_coin_toss_is_called_so():
    met = AgainstBaseline(0.707, 0.7, figure(0.007, -0.053, 0.069))
    check = check_baseline(
        met, reports.RULES.model_copy(update={"min_gain_over_baseline": 0}), reports.METRIC
    )
    assert (check.passed, check.shown) == (True, False)
    expected = f"better than the baseline is not shown: +0.007 [{MINUS}0.053, +0.069]"
    assert check.caveat == expected


def test_models_no_better_than_the_baseline_are_promoted_by_the_point_and_not_by_the_interval():
    """Both are right on 90 % of 200 images, each on its own: what passes is a coin's toss."""
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 5
    point = reports.RULES.model_copy(update={"min_gain_over_baseline": 0.0})
    interval = point.model_copy(update={"baseline": "interval"})

    def model():
        return one_hot(np.where(rng.random(200) < 0.1, (labels + 1) % 5, labels), 5)

    by_point, by_interval, called_shown = 0, 0, 0
    for _ in range(200):
        one, two = (Scored.of(labels, model(), reports.HOW) for _ in range(2))
        difference = compare(one, two)["macro_f1"]
        met = AgainstBaseline(0.9 + difference["value"], 0.9, difference)
        check = check_baseline(met, point, reports.METRIC)
        by_point += check.passed
        called_shown += check.passed and check.shown
        by_interval += check_baseline(met, interval, reports.METRIC).passed
    assert 80 <= by_point <= 120
    assert by_interval == called_shown <= 10


@pytest.mark.parametrize(
    ("value", "low", "high", "brier", "passed", "shown"),
    [
        (-0.002, -0.008, 0.004, 0.1, True, True),  # shown to lose no more than the margin
        (0.000, -0.050, 0.050, 0.0, True, False),  # too few images to show it: Brier decides
        (0.010, -0.050, 0.070, 0.001, False, False),
        (-0.002, -0.050, 0.046, -0.001, True, False),
        (-0.002, -0.050, 0.046, 0.001, False, False),
        (-0.030, -0.040, -0.020, -0.1, False, False),  # shown to be worse
        (-0.004, -0.010, 0.002, 0.1, True, True),  # the margin itself is permitted
        (-0.006, -0.008, -0.004, -0.1, False, True),  # within the margin, and shown to be worse
        (-0.001, -0.002, 0.000, 0.1, True, True),
    ],
)
def test_what_a_model_is_shipped_by_must_not_fall(value, low, high, brier, passed, shown):
    lost = Loss(figure(value, low, high), brier)
    check = check_loss(lost, 0.01, reports.METRIC, "the champion")
    assert (check.passed, check.shown) == (passed, shown)
    said = [number(one, sign=True, digits=4) for one in (value, low)]
    assert f"macro-F1 {said[0]} against the champion, 95 % interval {said[1]}" in check.reason
    assert bool(check.caveat) == (not shown)
    decides = high >= 0 and not shown
    assert (number(brier, sign=True, digits=4) in check.reason) == decides


class Line:
    """A line of champions, judged on the same 10,000 images as the gate judges them."""

    def __init__(self, seed):
        self.rng, n = np.random.default_rng(seed), 10_000
        self.labels = np.arange(n) % 10
        self.champion = self.rng.permutation(np.arange(n) < 0.95 * n)  # which images are right
        self.best, self.promoted = self.champion, 0

    def posteriors(self, right):
        return one_hot(np.where(right, self.labels, (self.labels + 1) % 10), 10)

    def difference(self, first, second):
        one, two = (
            Scored.of(self.labels, self.posteriors(right), reports.HOW) for right in (first, second)
        )
        value = reports.METRIC.value(one) - reports.METRIC.value(two)
        interval = reports.METRIC.difference(one, two, value)
        return Loss(figure(value, *interval), brier_difference(one, two))

    def candidate(self, loss, churn):
        """Return a model that loses images, and swaps some others: predictions correlate."""
        new, swapped = self.champion.copy(), round(churn * len(self.labels))
        lost = self.rng.choice(
            np.flatnonzero(self.champion), swapped + round(loss * len(self.labels)), replace=False
        )
        new[self.rng.choice(np.flatnonzero(~self.champion), swapped, replace=False)] = True
        new[lost] = False
        return new

    def judge(self, candidate):
        """Promote a candidate if both conditions about losses are passed."""
        against = self.difference(candidate, self.champion)
        from_best = against
        if self.best is not self.champion:
            from_best = self.difference(candidate, self.best)
        checks = [check_loss(one, 0.01, reports.METRIC, "it") for one in (against, from_best)]
        if all(check.passed for check in checks):
            self.champion, self.promoted = candidate, self.promoted + 1
            if from_best.difference["value"] >= 0:
                self.best = candidate


def test_losses_within_the_margin_are_refused_where_they_are_shown():
    """Twelve candidates, each 0.6 points worse: all were promoted once, from 0.950 to 0.878."""
    line = Line(0)
    for _ in range(12):
        line.judge(line.candidate(loss=0.006, churn=0.002))
    assert line.promoted == 0
    assert line.champion.mean() == 0.95


def test_losses_that_are_not_shown_do_not_add_up():
    """Twelve candidates, each 0.2 points worse, too little to show against the one before."""
    line = Line(1)
    for _ in range(12):
        line.judge(line.candidate(loss=0.002, churn=0.01))
    assert line.promoted >= 1  # one alone is within what cannot be shown
    assert line.champion.mean() > 0.95 - 0.01
    assert line.best.mean() == 0.95


@pytest.mark.parametrize(
    ("value", "low", "high", "passed"),
    [
        (0.01, 0.005, 0.015, True),  # surely worse, but within
        (0.05, -0.01, 0.11, True),  # perhaps by chance
        (0.05, 0.01, 0.09, False),
        (-0.05, -0.09, -0.01, True),
    ],
)
def test_calibration_fails_when_harm_is_shown(value, low, high, passed):
    check = check_calibration(figure(value, low, high), 0.02)
    assert check.passed == passed
    assert "register.max_ece_gain, 0.02" in check.reason


@pytest.mark.parametrize(("ratio", "passed"), [(0.5, True), (2.0, True), (2.01, False)])
def test_a_slow_candidate_is_refused(ratio, passed):
    assert check_latency(ratio, 2.0).passed == passed


def test_every_condition_says_what_was_asked_and_found():
    register = reports.met(("ant", "bee", "crab"), 60, champion=3.0, candidate=-3.0)
    checks = {check.name: check for check in register.checks}
    assert [check.title for check in register.checks] == [
        "Macro-F1 above the baseline's",
        "Macro-F1 against the champion",
        "Recall of each class",
        "Recall of small classes, pooled",
        "Calibration error",
        "Time per image",
    ]
    baseline, loss, recall = (checks[name] for name in ("baseline", "loss", "class_recall"))
    assert (baseline.finding, baseline.detail) == ("+0.100", "[+0.050, +0.150]")
    assert baseline.limit == "above 0, at least 0.01"
    difference = register.comparison.macro_f1
    assert loss.finding == f"{difference.value:+.3f}".replace("-", MINUS)
    low, high = (f"{end:+.3f}".replace("-", MINUS) for end in difference.ci95)
    assert loss.detail == f"[{low}, {high}]"
    worst = max(register.classes, key=lambda name: register.classes[name].loss)
    assert recall.finding == f"{MINUS}{register.classes[worst].loss:.3f}"
    assert recall.detail == f"in class {worst}"
    assert recall.limit == "no loss above 0.05 beyond chance"
    (group,) = register.groups
    assert checks["pooled_recall"].finding == f"{MINUS}{group.loss:.3f}"
    assert checks["latency"].finding == "1.08 times the champion's"
    assert checks["latency"].limit == "at most 2 times"


def test_without_a_champion_there_is_the_baseline_to_beat():
    (check,) = judge(reports.OVER_BASELINE, None, None, reports.RULES, reports.METRIC)
    assert (check.name, check.passed, check.shown) == ("baseline", True, True)


def test_without_a_baseline_nothing_is_shown_of_a_first_model():
    (check,) = judge(None, None, None, reports.RULES, reports.METRIC)
    assert (check.name, check.passed, check.shown) == ("baseline", True, False)
    assert check.caveat == "no baseline was fitted (baseline.classifier: none)"
    later = skip_baseline(reports.METRIC, first=False)
    assert (later.passed, later.shown, later.finding) == (True, True, "not asked")
