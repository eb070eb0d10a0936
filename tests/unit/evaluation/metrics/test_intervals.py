import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp

from pipeline.evaluation.metrics import intervals


@pytest.mark.parametrize(("successes", "trials"), [(0, 7), (3, 7), (7, 7), (450, 460)])
def test_wilson_equals_scipy(successes, trials):
    expected = binomtest(successes, trials).proportion_ci(method="wilson")
    np.testing.assert_allclose(
        intervals.wilson(np.array(successes), np.array(trials)), expected, atol=1e-12
    )


def test_wilson_without_trials_knows_nothing():
    assert intervals.wilson(np.array(0), np.array(0)).tolist() == [0, 1]


def test_wilson_of_a_perfect_result_is_no_point():
    low, high = intervals.wilson(np.array(20), np.array(20))
    assert high == 1.0
    assert 0.8 < low < 0.9


def test_f1_interval_is_wilsons_of_the_jaccard_index():
    # 3 hits, 1 missed, 2 false alarms: 3 of 6.
    found = intervals.f1_interval(np.array([3]), np.array([4]), np.array([5]))[0]
    low, high = binomtest(3, 6).proportion_ci(method="wilson")
    np.testing.assert_allclose(found, [2 * low / (1 + low), 2 * high / (1 + high)])


def test_paired_proportions_by_hand():
    # p = 6 / 102 and 3 / 102, as in Bonett and Price's equation 2.
    difference, total = 3 / 102, 9 / 102
    arm = 1.959963984540054 * np.sqrt((total - difference**2) / 102)
    np.testing.assert_allclose(
        intervals.paired_proportions(np.array(5), np.array(2), np.array(100)),
        [difference - arm, difference + arm],
    )


def test_paired_proportions_without_disagreement_are_no_point():
    low, high = intervals.paired_proportions(np.array(0), np.array(0), np.array(50))
    assert low == -high
    assert 0.03 < high < 0.1


def test_effective_images():
    assert intervals.effective_images(np.array([10, 10, 10])) == pytest.approx(30)
    # Rare classes weigh as much as common ones, and tell less.
    assert intervals.effective_images(np.array([100, 2])) == pytest.approx(4 / (1 / 100 + 1 / 2))


def test_widen_reaches_both_ways():
    found = intervals.widen(np.array([0.8, 0.95]), 0.9, np.array([-0.05, 0.08]))
    np.testing.assert_allclose(found, [0.8, 0.98])


def test_percentile_interval_holds_the_value():
    resampled = np.linspace(0.0, 1.0, 1001)
    np.testing.assert_allclose(intervals.percentile_interval(resampled, 0.5), [0.025, 0.975])
    assert intervals.percentile_interval(resampled, 0.99)[1] == 0.99


def test_difference_of_two_intervals_adds_their_arms_in_squares():
    found = intervals.difference_of((0.5, np.array([0.2, 0.6])), (0.1, np.array([0.0, 0.5])))
    # Down: arms 0.3 and 0.4; up: 0.1 and 0.1.
    np.testing.assert_allclose(found, [0.4 - 0.5, 0.4 + np.sqrt(0.02)])


def test_basic_interval_is_mirrored():
    resampled = np.linspace(0.2, 0.4, 1001)
    np.testing.assert_allclose(intervals.basic_interval(resampled, 0.25), [0.105, 0.295])
    assert intervals.basic_interval(resampled, 0.1).tolist() == pytest.approx([-0.195, 0.1])


def test_resamples_keep_the_size_of_each_stratum():
    strata = np.array([2, 0, 2, 1, 2, 0])
    blocks = list(intervals.stratified_resamples(strata, 50, seed=3))
    rows = np.concatenate(blocks)
    assert rows.shape == (50, 6)
    for resample in rows:
        assert np.bincount(strata[resample]).tolist() == [2, 1, 3]
    # Every row of a stratum is drawn now and then.
    assert set(rows.ravel()) == set(range(6))


def test_resamples_repeat_by_seed_and_ignore_the_block_size(monkeypatch):
    strata = np.arange(12) % 3
    whole = np.concatenate(list(intervals.stratified_resamples(strata, 20, seed=1)))
    monkeypatch.setattr(intervals, "_INDICES_AT_ONCE", 30)
    blocks = list(intervals.stratified_resamples(strata, 20, seed=1))
    assert max(block.size for block in blocks) <= 30
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    other = np.concatenate(list(intervals.stratified_resamples(strata, 20, seed=2)))
    assert not np.array_equal(other, whole)


def test_mean_interval_of_values_without_skew_is_students():
    values = np.array([-3.0, -1.0, 0.0, 1.0, 3.0]) + 4
    expected = ttest_1samp(values, 0.0).confidence_interval(0.95)
    np.testing.assert_allclose(intervals.mean_interval(values, -9.0, 9.0), expected)


def test_mean_interval_leans_to_the_long_tail():
    low, high = intervals.mean_interval(np.array([0.1] * 20 + [3.0]), 0.0, 9.0)
    mean = 5 / 21
    assert 0 <= low < mean < high
    assert high - mean > 3 * (mean - low)


def test_mean_interval_of_equal_values_is_a_point_and_of_one_value_everything():
    np.testing.assert_allclose(intervals.mean_interval(np.full(7, 0.1), 0.0, 2.0), 0.1)
    assert intervals.mean_interval(np.array([0.1]), 0.0, 2.0).tolist() == [0.0, 2.0]


@pytest.mark.parametrize("count", [20, 136])
def test_mean_intervals_of_skewed_values_hold_the_truth(count):
    """Exponential values, whose mean is 1."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        low, high = intervals.mean_interval(rng.exponential(size=count), 0.0, 99.0)
        held += low <= 1.0 <= high
    assert 0.92 < held / 1000 < 0.98
