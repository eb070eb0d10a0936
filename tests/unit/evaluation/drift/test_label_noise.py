import numpy as np
import pytest
from scipy.stats import fisher_exact

from pipeline.evaluation.drift.label_noise import judge_labels

CLASSES = tuple("abcdefghij")
LEVEL, MIN_EXCESS = 0.01, 0.02


def champion(rng, truth, skill=3.6, sharpness=1.0):
    """Posteriors of a model that is right for 96 % of the images."""
    logits = rng.normal(size=(len(truth), 10)) + skill * np.eye(10)[truth]
    odds = np.exp(sharpness * logits)
    return odds / odds.sum(axis=1, keepdims=True)


def draw(rng, count, mix=1.0, **how):
    chances = np.where(np.arange(10) < 5, mix, 1.0)
    truth = rng.choice(10, count, p=chances / chances.sum())
    return truth, champion(rng, truth, **how)


def posteriors(answers, k):
    return np.eye(k)[np.asarray(answers)] * 0.9 + 0.1 / k


def answered(table):
    """Labels and posteriors with given counts: rows are labels, columns answers."""
    table = np.asarray(table)
    labels, answers = np.nonzero(np.ones_like(table))
    return labels.repeat(table.ravel()), posteriors(answers.repeat(table.ravel()), len(table))


def shares_of(found):
    return {(one.scope, one.name): one for one in found.shares}


def test_counts_by_hand():
    reference = answered([[45, 5], [2, 48]])
    new = answered([[8, 2], [6, 4]])
    shares = shares_of(judge_labels(reference, new, "ab"))
    assert set(shares) == {("all", None), ("given", "a"), ("given", "b")} | {
        ("suggested", "a"),
        ("suggested", "b"),
    }
    every = shares["all", None]
    assert (every.suspects, every.images) == (8, 20)
    # 10 images at 5 of 50, 10 at 2 of 50.
    assert every.expected == pytest.approx(1.4)
    assert every.excess == pytest.approx(6.6 / 20)
    assert every.interval[0] < every.excess < every.interval[1]
    given = shares["given", "b"]
    assert (given.suspects, given.images, given.expected) == (6, 10, pytest.approx(0.4))
    assert given.p == pytest.approx(fisher_exact([[6, 4], [2, 48]], "greater").pvalue)
    suggested = shares["suggested", "a"]
    assert (suggested.suspects, suggested.images) == (6, 14)


def test_equal_mixes_of_classes_make_all_p_values_fishers():
    """The answers to the new images show the reference's mix, hence all weights are 1."""
    reference = answered([[45, 5, 0], [5, 45, 0], [0, 0, 50]])
    new = answered([[6, 4, 0], [4, 3, 3], [0, 3, 7]])
    shares = shares_of(judge_labels(reference, new, "abc"))
    for i, name in enumerate("abc"):
        wrong, right = [4, 7, 3][i], [6, 3, 7][i]
        before_wrong, before_right = [5, 5, 0][i], [45, 45, 50][i]
        exact = fisher_exact([[wrong, right], [before_wrong, before_right]], "greater").pvalue
        assert shares["suggested", name].p == pytest.approx(exact)


def test_p_over_all_classes_is_that_of_permutations_within_classes():
    reference = answered([[18, 2], [5, 15]])
    new = answered([[5, 2], [3, 3]])
    found = shares_of(judge_labels(reference, new, "ab"))["all", None]
    rng = np.random.default_rng(0)
    drawn = sum(
        (rng.permuted(np.tile(wrong, (40_000, 1)), axis=1)[:, :count].sum(axis=1))
        for wrong, count in ((np.arange(27) < 4, 7), (np.arange(26) < 8, 6))
    )
    assert found.p == pytest.approx((drawn >= 5).mean(), abs=0.01)


def test_p_values_are_corrected_as_holm_did():
    rng = np.random.default_rng(1)
    shares = judge_labels(draw(rng, 300), draw(rng, 60), CLASSES).shares
    # The question about all images has half of the weight, the others share the rest.
    weights = [0.5 if one.scope == "all" else 0.5 / (len(shares) - 1) for one in shares]
    corrected, largest = [], 0.0
    for place, one in enumerate(shares):
        largest = max(largest, min(1.0, one.p * sum(weights[place:]) / weights[place]))
        corrected.append(largest)
    assert [one.corrected_p for one in shares] == pytest.approx(corrected)
    ratios = [one.p / weight for one, weight in zip(shares, weights, strict=True)]
    assert ratios == sorted(ratios)


@pytest.mark.parametrize(
    ("count", "how"),
    [(20, {}), (300, {}), (300, {"mix": 3}), (80, {"skill": 2.3}), (80, {"sharpness": 4.0})],
)
def test_true_labels_give_no_finding(count, how):
    """Also with another mix of classes, a weak model (0.76) and one that is too sure of itself."""
    of_model = {key: value for key, value in how.items() if key != "mix"}
    found = 0
    for seed in range(150):
        rng = np.random.default_rng([2, seed])
        judged = judge_labels(draw(rng, 400, **of_model), draw(rng, count, **how), CLASSES)
        found += bool(judged.findings(LEVEL, MIN_EXCESS))
    assert found <= 4  # of 150 with a chance of 0.01 each, more are as rare as 2 %


def test_half_of_twenty_wrong_labels_are_found():
    found = []
    for seed in range(60):
        rng = np.random.default_rng([3, seed])
        labels, said = draw(rng, 20)
        labels[:10] = (labels[:10] + rng.integers(1, 10, 10)) % 10
        judged = judge_labels(draw(rng, 400), (labels, said), CLASSES)
        found.append({one.scope for one in judged.findings(LEVEL, MIN_EXCESS)})
        # Most of the ten stand first in the list.
        assert np.isin(judged.rows[:10], np.arange(10)).mean() >= 0.7
    assert np.mean(["all" in scopes for scopes in found]) >= 0.95


@pytest.mark.parametrize("filed", [False, True])
def test_a_class_with_wrong_labels_is_found_by_name(filed):
    """Eight images of one class of ten: labels drawn at random, or all filed under another."""
    found = []
    for seed in range(60):
        rng = np.random.default_rng([4, seed])
        truth = np.concatenate([np.full(8, 6), rng.choice([0, 1, 2, 3, 4, 5, 7, 8, 9], 72)])
        labels = truth.copy()
        labels[:8] = 2 if filed else rng.integers(0, 10, 8)
        judged = judge_labels(draw(rng, 400), (labels, champion(rng, truth)), CLASSES)
        found.append({one.name for one in judged.findings(LEVEL, MIN_EXCESS)})
    assert np.mean(["g" in names for names in found]) >= 0.95


def test_suspects_are_listed_with_what_the_model_would_say():
    said = np.array([[0.9, 0.1], [0.2, 0.8], [0.05, 0.95], [0.2, 0.8], [0.3, 0.7]])
    judged = judge_labels(answered([[5, 0], [0, 5]]), (np.array([0, 0, 0, 1, 0]), said), "ab")
    assert judged.rows.tolist() == [2, 1]
    assert judged.suggested.tolist() == [1, 1]
    assert judged.score.tolist() == pytest.approx([0.9, 0.6])
    # The last is hardly contradicted: an image, no suspect, and taken for neither class.
    shares = shares_of(judged)
    assert (shares["given", "a"].suspects, shares["given", "a"].images) == (2, 4)
    assert (shares["suggested", "b"].suspects, shares["suggested", "b"].images) == (2, 3)


def test_copies_of_one_mistake_count_once():
    reference = answered([[50, 2], [2, 50]])
    labels, said = answered([[10, 12], [0, 10]])
    units = np.where((labels == 0) & (said.argmax(axis=1) == 1), 99, np.arange(32))
    alone = judge_labels(reference, (labels, said), "ab")
    together = judge_labels(reference, (labels, said), "ab", units_new=units)
    assert alone.findings(LEVEL, MIN_EXCESS)
    assert not together.findings(LEVEL, MIN_EXCESS)
    assert shares_of(together)["all", None].suspects == 1
    assert len(together.rows) == 12


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([[0, 0], [0, 0]], [[3, 1], [0, 2]]),
        ([[3, 1], [0, 2]], [[0, 0], [0, 0]]),
        # Nothing known of a class; nothing right; nothing wrong; one answer for all.
        ([[9, 0], [0, 0]], [[3, 1], [4, 2]]),
        ([[0, 9], [9, 0]], [[0, 3], [4, 0]]),
        ([[9, 0], [0, 9]], [[3, 0], [0, 4]]),
        ([[9, 0], [9, 0]], [[3, 0], [4, 0]]),
    ],
)
def test_odd_counts_are_judged_without_a_finding(before, after):
    judged = judge_labels(answered(before), answered(after), "ab")
    assert not judged.findings(LEVEL, MIN_EXCESS)
    for one in judged.shares:
        assert np.isfinite([one.expected, one.excess, *one.interval]).all()
        assert 0 <= one.p <= one.corrected_p <= 1
        assert one.interval[0] <= one.excess + 1e-12
        assert one.excess <= one.interval[1] + 1e-12


def test_labels_of_a_small_type_are_counted_right():
    """Packed images have labels of eight bits."""
    k = 40
    labels = np.arange(k).repeat(3)
    said = posteriors(labels, k)
    names = [str(i) for i in range(k)]
    judged = judge_labels((labels.astype(np.uint8), said), (labels.astype(np.uint8), said), names)
    assert shares_of(judged)["all", None].suspects == 0
    assert len(judged.rows) == 0
