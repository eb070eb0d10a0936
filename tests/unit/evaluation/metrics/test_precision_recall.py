import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from pipeline.evaluation.metrics import intervals, precision_recall
from pipeline.evaluation.metrics.precision_recall import average_precision, curve


def world(rng, sizes, skill=1.5):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    odds = np.exp(rng.normal(size=(len(labels), len(sizes))) + skill * np.eye(len(sizes))[labels])
    return labels, odds / odds.sum(axis=1, keepdims=True)


def test_average_precision_by_hand():
    # Ranked: yes, no, yes. Precision at the two: 1 and 2 / 3.
    found = average_precision(np.array([0, 1, 0]), np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]))
    assert found.value[0] == pytest.approx(5 / 6)


@pytest.mark.parametrize("decimals", [9, 1])
def test_average_precision_equals_scikit_learn(decimals):
    """With one decimal most scores are tied."""
    labels, probabilities = world(np.random.default_rng(0), [40, 20, 5])
    probabilities = np.round(probabilities, decimals)
    found = average_precision(labels, probabilities)
    expected = [average_precision_score(labels == c, probabilities[:, c]) for c in range(3)]
    np.testing.assert_allclose(found.value, expected)
    assert found.macro == pytest.approx(np.mean(expected))


def test_influence_is_the_derivative_by_an_images_weight():
    labels, probabilities = world(np.random.default_rng(1), [12, 7, 4])
    found = average_precision(labels, np.round(probabilities, 1))
    step = 1e-6

    def weighted(row):
        weight = np.ones(len(labels))
        weight[row] += step
        return np.mean(
            [
                average_precision_score(
                    labels == c, np.round(probabilities[:, c], 1), sample_weight=weight
                )
                for c in range(3)
            ]
        )

    moved = [(weighted(row) - found.macro) / step for row in range(len(labels))]
    np.testing.assert_allclose(found.influence, moved, atol=1e-5)


def test_the_standard_error_is_about_the_bootstraps():
    labels, probabilities = world(np.random.default_rng(2), [60, 40, 30])
    found = average_precision(labels, probabilities)
    (rows,) = intervals.stratified_resamples(labels, 300, seed=0)
    drawn = [average_precision(labels[r], probabilities[r]).macro for r in rows]
    error = precision_recall.standard_error(found.influence, labels)
    assert error == pytest.approx(np.std(drawn), rel=0.15)


def test_a_class_without_images_is_left_out():
    labels, probabilities = np.array([0, 0, 2]), np.eye(3)[[0, 0, 2]]
    found = average_precision(labels, probabilities)
    assert np.isnan(found.value[1])
    assert found.macro == 1.0
    ends = precision_recall.class_intervals(found)
    assert ends[1].tolist() == [0, 1]
    # One image says little.
    assert ends[2][0] < 0.3 < ends[0][0]


def test_intervals_of_perfect_models_are_no_points():
    labels = np.repeat([0, 1], 30)
    found = average_precision(labels, np.eye(2)[labels])
    low, high = precision_recall.macro_interval(found)
    assert 0.9 < low < high == 1.0
    low, high = precision_recall.difference_interval(found, found)
    assert -0.1 < low < 0 < high < 0.1


def test_curves_are_scikit_learns_where_an_image_is_found():
    labels, probabilities = world(np.random.default_rng(3), [30, 20])
    positive, scores = labels == 0, np.round(probabilities[:, 0], 2)
    found = curve(positive, scores, 999)
    precision, recall, thresholds = precision_recall_curve(positive, scores)
    known = {t: (p, r) for p, r, t in zip(precision, recall, thresholds, strict=False)}
    for p, r, t in zip(found.precision, found.recall, found.threshold, strict=True):
        assert (p, r) == pytest.approx(known[t])
    assert found.recall[-1] == 1.0
    steps = np.diff(np.r_[0.0, found.recall])
    assert (steps * found.precision).sum() == pytest.approx(
        average_precision_score(positive, scores)
    )


def test_long_curves_are_thinned_to_their_ends():
    labels, probabilities = world(np.random.default_rng(4), [900, 100])
    whole = curve(labels == 0, probabilities[:, 0], 10_000)
    thin = curve(labels == 0, probabilities[:, 0], 50)
    assert len(thin.recall) == 50
    assert set(thin.threshold) <= set(whole.threshold)
    assert thin.recall[-1] == 1.0
    assert thin.threshold[0] == whole.threshold[0]


def test_a_curve_without_images_is_empty():
    assert len(curve(np.zeros(3, bool), np.array([0.1, 0.2, 0.3]), 10).recall) == 0
