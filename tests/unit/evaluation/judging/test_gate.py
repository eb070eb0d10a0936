import numpy as np
import pytest
from scipy.stats import norm

from pipeline.evaluation.judging.gate import (
    check_baseline,
    check_calibration,
    check_latency,
    check_macro_f1,
    check_recalls,
    compare_recalls,
    judge,
)
from tests import reports

MINUS = "\N{MINUS SIGN}"


def figure(value, low, high):
    return {"value": value, "ci95": [low, high]}


def one_hot(predicted, classes):
    return np.eye(classes)[predicted]


@pytest.mark.parametrize(
    ("candidate", "baseline", "min_gain", "passed"),
    [
        (0.8, 0.7, 0.0, True),
        (0.7, 0.7, 0.0, False),
        (0.6, 0.7, 0.0, False),
        (0.75, 0.7, 0.1, False),
    ],
)
def test_the_baseline_must_be_beaten(candidate, baseline, min_gain, passed):
    check = check_baseline(candidate, baseline, min_gain)
    assert check.passed == passed
    assert check.value == pytest.approx(candidate - baseline)
    assert f"min_gain_over_baseline, {min_gain:g}" in check.reason


@pytest.mark.parametrize(
    ("value", "low", "high", "passed"),
    [
        (-0.002, -0.008, 0.004, True),  # shown to lose no more than the margin
        (0.000, -0.050, 0.050, True),  # too few images to show it, but no worse on them
        (0.010, -0.050, 0.070, True),
        (-0.002, -0.050, 0.046, False),  # too few images, and worse on them
        (-0.030, -0.040, -0.020, False),
        (-0.004, -0.010, 0.002, True),  # the margin itself is permitted
    ],
)
def test_macro_f1_must_not_be_shown_to_fall(value, low, high, passed):
    check = check_macro_f1(figure(value, low, high), 0.01)
    assert check.passed == passed
    assert f"{value:+.4f} against the champion's, 95 % interval {low:+.4f}" in check.reason


def test_recalls_by_hand():
    # Class a: 4 images, the champion has all, the candidate half. Class b: 2, both all. c: none.
    labels = np.array([0, 0, 0, 0, 1, 1])
    champion = one_hot([0, 0, 0, 0, 1, 1], 3)
    candidate = one_hot([0, 0, 1, 2, 1, 1], 3)
    recalls = compare_recalls(labels, candidate, champion, ("a", "b", "c"))
    assert set(recalls) == {"a", "b"}
    a = recalls["a"]
    assert (a.support, a.candidate, a.champion, a.loss) == (4, 0.5, 1.0, 0.5)
    # Bonett and Price with one more pair of either kind, at 1 - 0.05 / 2 for two classes.
    first, second, n = 3 / 6, 1 / 6, 6
    arm = norm.ppf(1 - 0.05 / 4) * np.sqrt((first + second - (first - second) ** 2) / n)
    assert a.interval == pytest.approx([first - second - arm, 1.0])  # it ends there


@pytest.mark.parametrize(
    ("support", "lost", "passed"),
    [
        (3, 1, True),  # a loss of 0.33, and yet one error in three shows nothing
        (3, 3, True),
        (8, 8, False),
        (100, 4, True),  # below the limit
        (100, 30, False),
        (400, 19, True),  # 0.0475: surely a loss, but a permitted one
        (400, 40, False),
    ],
)
def test_a_class_is_judged_by_its_images(support, lost, passed):
    labels = np.repeat([0, 1], [support, 50])
    champion = one_hot(labels, 2)
    answers = labels.copy()
    answers[:lost] = 1
    check = check_recalls(compare_recalls(labels, one_hot(answers, 2), champion, ("a", "b")), 0.05)
    assert check.passed == passed
    assert check.value == pytest.approx(lost / support)
    assert "class a" in check.reason


def test_noise_among_a_hundred_classes_is_not_harm():
    """Two models that are wrong at random, equally often, pass in nearly all of 40 draws."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(100), 30)
    classes = tuple(map(str, range(100)))

    def model():
        wrong = rng.random(len(labels)) < 0.2
        return one_hot(np.where(wrong, (labels + 1) % 100, labels), 100)

    passed = [
        check_recalls(compare_recalls(labels, model(), model(), classes), 0.05).passed
        for _ in range(40)
    ]
    assert sum(passed) >= 36


def test_a_class_that_gains_is_no_loss():
    labels = np.array([0] * 10 + [1] * 10)
    worse = one_hot(np.zeros(20, int), 2)
    check = check_recalls(compare_recalls(labels, one_hot(labels, 2), worse, ("a", "b")), 0.0)
    assert check.passed
    assert check.reason == "recall falls in no class"
    assert (check.finding, check.detail) == ("falls in none", "")


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
    checks = register.checks
    assert [check.title for check in checks] == [
        "Macro-F1 above the baseline's",
        "Macro-F1 against the champion's",
        "Recall of each class",
        "Calibration error",
        "Time per image",
    ]
    assert (checks[0].finding, checks[0].limit) == ("+0.100", "above 0, at least 0.01")
    difference = register.comparison.macro_f1
    assert checks[1].finding == f"{difference.value:+.3f}".replace("-", MINUS)
    low, high = (f"{end:+.3f}".replace("-", MINUS) for end in difference.ci95)
    assert checks[1].detail == f"[{low}, {high}]"
    worst = max(register.classes, key=lambda name: register.classes[name].loss)
    assert checks[2].finding == f"{MINUS}{register.classes[worst].loss:.3f}"
    assert checks[2].detail == f"in class {worst}"
    assert checks[2].limit == "no loss above 0.05 beyond chance"
    assert (checks[4].finding, checks[4].limit) == ("1.08 times the champion's", "at most 2 times")


def test_without_a_champion_there_is_the_baseline_to_beat():
    (check,) = judge({"macro_f1": 0.9}, {"macro_f1": 0.8}, None, reports.RULES)
    assert (check.name, check.passed) == ("baseline", True)
