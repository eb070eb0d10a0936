import time

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn import metrics as reference

from pipeline.errors import PipelineError
from pipeline.evaluation.metrics import scores
from pipeline.evaluation.metrics.measure import (
    brier_difference,
    compare,
    difference_interval,
    mcnemar,
    measure,
)
from pipeline.evaluation.metrics.precision_recall import average_precision
from pipeline.evaluation.metrics.table import Scored, metrics_of
from pipeline.params import Evaluate

HOW = Evaluate(
    seed=0,
    metric="macro_f1",
    bootstrap_resamples=300,
    calibration_bins=10,
    top_k=(2,),
    suspicious_images=20,
)


def metric_names(class_count, how):
    return [metric.name for metric in metrics_of(class_count, how)]


METRICS = metric_names(5, HOW)
NAMES = ("ant", "bee", "cat", "dog", "elk")


def world(rng, sizes, skill):
    """Draw a test set: logits with unit noise, the true class `skill` higher."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    logits = rng.normal(size=(len(labels), len(sizes)))
    logits[np.arange(len(labels)), labels] += skill
    odds = np.exp(logits)
    return labels, odds / odds.sum(axis=1, keepdims=True)


def test_values_equal_scikit_learn():
    labels, probabilities = world(np.random.default_rng(0), [60, 40, 20, 10, 6], 2.0)
    block = measure(Scored.of(labels, probabilities, HOW), NAMES)
    predicted = probabilities.argmax(axis=1)
    expected = {
        "accuracy": reference.accuracy_score(labels, predicted),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, predicted),
        "macro_f1": reference.f1_score(labels, predicted, average="macro"),
        "nll": reference.log_loss(labels, probabilities),
        "brier": ((probabilities - np.eye(5)[labels]) ** 2).sum(axis=1).mean(),
        "top_2_accuracy": reference.top_k_accuracy_score(labels, probabilities, k=2),
    }
    for name, value in expected.items():
        assert block[name]["value"] == pytest.approx(value)
    assert block["images"] == 136
    f1 = reference.f1_score(labels, predicted, average=None)
    assert [block["per_class"][name]["f1"]["value"] for name in NAMES] == pytest.approx(list(f1))
    assert [block["per_class"][name]["support"] for name in NAMES] == [60, 40, 20, 10, 6]


def test_top_k_is_left_out_where_it_would_be_1():
    how = HOW.model_copy(update={"top_k": (2, 3, 5)})
    assert [name for name in metric_names(4, how) if "top" in name] == [
        "top_2_accuracy",
        "top_3_accuracy",
    ]


def test_every_interval_holds_its_value_and_is_no_point():
    labels, probabilities = world(np.random.default_rng(1), [60, 40, 20, 10, 6], 2.0)
    block = measure(Scored.of(labels, probabilities, HOW), NAMES)
    figures = [block[name] for name in METRICS]
    for entry in block["per_class"].values():
        figures += [entry[key] for key in ("precision", "recall", "f1")]
    for figure in figures:
        low, high = figure["ci95"]
        assert low <= figure["value"] <= high
        assert high - low > 0.01


def test_intervals_of_a_perfect_result_are_no_points():
    labels = np.repeat(np.arange(5), [60, 40, 20, 10, 6])
    block = measure(Scored.of(labels, np.eye(5)[labels], HOW), NAMES)
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert block[name]["value"] == 1.0
        assert block[name]["ci95"][1] == 1.0
    accuracy, balanced = (block[name]["ci95"][0] for name in ("accuracy", "balanced_accuracy"))
    # Means over classes know less than accuracy does: they rest on the rare ones.
    assert 0.85 < balanced < accuracy < 0.99


@pytest.mark.parametrize("skill", [2.0, 6.0])
def test_intervals_hold_the_truth_in_about_95_of_100_test_sets(skill):
    """The truth is a set of 100,000 images; test sets have 136. At skill 6 all are right."""
    rng = np.random.default_rng(7)
    sizes = np.array([60, 40, 20, 10, 6])
    large = world(rng, sizes * 750, skill)
    given = scores.answers(*large)
    truth = {
        "accuracy": given.right.mean(),
        "balanced_accuracy": scores.balanced_accuracy(given.hits, given.support),
        "macro_f1": scores.macro_f1(given.hits, given.support, given.predictions),
        "top_2_accuracy": (given.place < 2).mean(),
        "average_precision": average_precision(*large).macro,
        "nll": given.loss.mean(),
        "brier": given.brier.mean(),
    }
    held = dict.fromkeys(truth, 0)
    trials = 200
    for _ in range(trials):
        block = measure(Scored.of(*world(rng, sizes, skill), HOW), NAMES)
        for name, value in truth.items():
            low, high = block[name]["ci95"]
            held[name] += low <= value <= high
    for name in truth:
        # Of a sum of squares that are nearly all 0, the test set may not show the rest.
        least = 0.85 if (name, skill) == ("brier", 6.0) else 0.91
        assert held[name] / trials >= least, name


def test_calibrated_models_may_show_zero_calibration_error():
    """Confidence equals the chance of being right: the error's interval reaches to 0."""
    rng = np.random.default_rng(3)
    reached = 0
    for _ in range(40):
        confidence = rng.uniform(0.5, 1.0, 150)
        labels = (rng.random(150) >= confidence).astype(int)
        probabilities = np.stack([confidence, 1 - confidence], axis=1)
        block = measure(Scored.of(labels, probabilities, HOW), ("yes", "no"))
        reached += block["ece"]["ci95"][0] == 0.0
    assert reached >= 36


@pytest.mark.parametrize("seed", [16, 30])
def test_the_interval_of_a_calibration_error_does_not_end_at_the_figure(seed):
    """Mirroring takes out more than all of the bias here; its interval is [.., the figure]."""
    labels = np.repeat([0, 1], [30, 10])
    logits = np.random.default_rng(seed).normal(size=(40, 2))
    logits[np.arange(40), labels] += 1.5
    posteriors = softmax(logits, axis=1)
    block = measure(Scored.of(labels, posteriors, HOW), ("yes", "no"))
    value, (low, high) = block["ece"]["value"], block["ece"]["ci95"]
    assert low == 0.0
    given = scores.answers(labels, posteriors)
    bin_of = scores.calibration_bin(given.confidence, HOW.calibration_bins)
    gap = given.right - given.confidence
    signed = np.array([np.sign(gap[bin_of == bin_of[i]].sum()) * gap[i] for i in range(40)])
    assert signed.mean() == pytest.approx(value)
    assert high == pytest.approx(value + 1.959964 * signed.std() / np.sqrt(40))


def test_an_overconfident_model_does_not_reach_zero():
    labels = np.arange(200) % 2
    said = np.arange(200) // 2 % 2
    block = measure(
        Scored.of(labels, np.where(np.eye(2, dtype=bool)[said], 0.9, 0.1), HOW), ("yes", "no")
    )
    assert block["ece"]["value"] == pytest.approx(0.4)
    low, high = block["ece"]["ci95"]
    assert 0.25 < low < 0.4 < high < 0.55


def test_undefined_figures_are_none():
    block = measure(Scored.of(np.array([0, 0]), np.eye(3)[[0, 1]], HOW), ("ant", "bee", "cat"))
    assert block["per_class"]["cat"]["precision"] == {"value": None, "ci95": [0.0, 1.0]}
    assert block["per_class"]["bee"]["recall"]["value"] is None
    assert block["per_class"]["bee"]["support"] == 0


def test_same_seed_same_block():
    labels, probabilities = world(np.random.default_rng(0), [20, 10, 6], 2.0)
    first = measure(Scored.of(labels, probabilities, HOW), NAMES[:3])
    assert measure(Scored.of(labels, probabilities, HOW), NAMES[:3]) == first


def test_2000_resamples_of_10000_rows_take_seconds():
    labels, probabilities = world(np.random.default_rng(0), [2000] * 5, 2.0)
    start = time.perf_counter()
    measure(
        Scored.of(labels, probabilities, HOW.model_copy(update={"bootstrap_resamples": 2000})),
        NAMES,
    )
    assert time.perf_counter() - start < 10


def test_compare_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    first = np.eye(2)[[0, 0, 0, 0, 1, 1, 1, 0]]
    second = np.eye(2)[[0, 0, 1, 1, 1, 1, 0, 1]]
    block = compare(Scored.of(labels, first, HOW), Scored.of(labels, second, HOW))
    assert block["accuracy"]["value"] == pytest.approx(2 / 8)
    assert block["balanced_accuracy"]["value"] == pytest.approx(2 / 8)
    assert block["mcnemar"] == {"only_first": 3, "only_second": 1, "p_value": 0.625}
    for name in metric_names(2, HOW):
        low, high = block[name]["ci95"]
        assert low <= block[name]["value"] <= high


def test_compare_subtracts_metrics_and_changes_sign():
    rng = np.random.default_rng(5)
    labels, first = world(rng, [60, 40, 20, 10, 6], 3.0)
    _, second = world(rng, [60, 40, 20, 10, 6], 2.0)
    block, back = (
        compare(Scored.of(labels, first, HOW), Scored.of(labels, second, HOW)),
        compare(Scored.of(labels, second, HOW), Scored.of(labels, first, HOW)),
    )
    one, two = (measure(Scored.of(labels, p, HOW), NAMES) for p in (first, second))
    for name in METRICS:
        difference = one[name]["value"] - two[name]["value"]
        assert block[name]["value"] == pytest.approx(difference)
        assert back[name]["value"] == pytest.approx(-difference)
        assert back[name]["ci95"] == pytest.approx([-end for end in block[name]["ci95"][::-1]])


def test_paired_intervals_are_narrower_than_unpaired_ones():
    rng = np.random.default_rng(5)
    labels, first = world(rng, [200, 200], 2.0)
    second = first.copy()
    second[:5] = second[:5, ::-1]
    block = compare(Scored.of(labels, first, HOW), Scored.of(labels, second, HOW))
    paired = np.ptp(block["accuracy"]["ci95"])
    assert paired < np.ptp(measure(Scored.of(labels, first, HOW), NAMES[:2])["accuracy"]["ci95"])


def test_a_model_equals_itself_without_doubt():
    labels, probabilities = world(np.random.default_rng(5), [20, 20], 1.0)
    block = compare(
        Scored.of(labels, probabilities, HOW), Scored.of(labels, probabilities.copy(), HOW)
    )
    for name in metric_names(2, HOW):
        assert block[name] == {"value": 0.0, "ci95": [0.0, 0.0]}
    assert block["mcnemar"]["p_value"] == 1.0
    assert block["same_answers"]


def test_two_models_that_agree_may_still_differ():
    labels = np.repeat([0, 1], 30)
    block = compare(
        Scored.of(labels, np.eye(2)[labels], HOW),
        Scored.of(labels, np.eye(2)[labels] * 0.8 + 0.1, HOW),
    )
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        low, high = block[name]["ci95"]
        assert low < 0 < high
    assert block["same_answers"]
    other = np.eye(2)[np.r_[1, labels[1:]]]
    assert not compare(Scored.of(labels, np.eye(2)[labels], HOW), Scored.of(labels, other, HOW))[
        "same_answers"
    ]


def test_the_interval_of_macro_f1_at_other_confidences():
    rng = np.random.default_rng(5)
    labels, first = world(rng, [60, 40, 20, 10, 6], 3.0)
    second = world(rng, [60, 40, 20, 10, 6], 2.0)[1]
    one, two = (Scored.of(labels, given, HOW) for given in (first, second))
    usual = difference_interval(one, two, 0.95)
    assert usual.tolist() == compare(one, two)["macro_f1"]["ci95"]
    surer = difference_interval(one, two, 0.99)
    assert surer[0] < usual[0] < usual[1] < surer[1]
    same = Scored.of(labels, first.copy(), HOW)
    assert difference_interval(one, same, 0.99).tolist() == [0.0, 0.0]


def test_the_interval_of_macro_f1_by_hand():
    """All 10 of one class are mended; where nothing is resampled, the closed form is left.

    Bonett and Price: (10 + 1 - 1) / 42 -+ z sqrt((11 / 42 + 1 / 42 - (10 / 42)^2) / 42).
    """
    labels = np.repeat([0, 1], 20)
    first, second = np.eye(2)[labels], np.eye(2)[np.repeat([0, 1, 0], [20, 10, 10])]
    low, _ = difference_interval(
        Scored.of(labels, first, HOW), Scored.of(labels, second, HOW), 0.99
    )
    arm = 2.5758293 * np.sqrt((12 / 42 - (10 / 42) ** 2) / 42)
    f1 = (2 * 20 / (20 + 30) + 2 * 10 / (20 + 10)) / 2
    assert low == pytest.approx((1 - f1) + (10 / 42 - arm) - 10 / 40)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (8, 1), (1, 8), (30, 25)])
def test_mcnemar_equals_scipy(first, second):
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected)


def test_no_test_images():
    with pytest.raises(PipelineError, match=r"^expected test images .* found none; raise split"):
        measure(Scored.of(np.empty(0, int), np.empty((0, 2)), HOW), ("yes", "no"))


def test_probabilities_that_are_no_numbers():
    probabilities = np.array([[0.5, 0.5], [np.nan, np.nan]])
    with pytest.raises(PipelineError, match=r"found NaN or infinity for 1 of 2 test images"):
        measure(Scored.of(np.array([0, 1]), probabilities, HOW), ("yes", "no"))


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "balanced_accuracy"])
def test_the_difference_of_brier_scores_weighs_classes_as_the_metric_does(metric):
    labels = np.array([0, 0, 0, 1])  # and none of class 2
    first = np.array([[0.8, 0.1, 0.1]] * 3 + [[0.5, 0.5, 0.0]])
    second = np.array([[0.5, 0.5, 0.0]] * 4)
    how = HOW.model_copy(update={"metric": metric})
    scored = [Scored.of(labels, posteriors, how) for posteriors in (first, second)]
    of_class_0 = (0.2**2 + 2 * 0.1**2) - (0.5**2 + 0.5**2)
    expected = of_class_0 * (3 / 4 if metric == "accuracy" else 1 / 2)
    assert brier_difference(*scored) == pytest.approx(expected)
    assert brier_difference(*scored[::-1]) == pytest.approx(-expected)
