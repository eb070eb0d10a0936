import warnings

import numpy as np
import pytest
from sklearn import metrics as reference

from pipeline.evaluation.metrics import scores

# True 0: right, right, taken for 1. True 1: right, taken for 2. True 2: right.
LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 2, 2])


def one_hot(predicted, classes=3, confidence=1.0):
    rest = (1 - confidence) / (classes - 1)
    return np.where(np.eye(classes, dtype=bool)[predicted], confidence, rest)


def random_answers(classes=6, n=400, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    probabilities = rng.dirichlet(np.full(classes, 0.4), n)
    probabilities[np.arange(n), labels] += 0.5
    return labels, probabilities / probabilities.sum(axis=1, keepdims=True)


def test_counts_by_hand():
    given = scores.answers(LABELS, one_hot(PREDICTED))
    assert given.support.tolist() == [3, 2, 1]
    assert given.hits.tolist() == [2, 1, 1]
    assert given.predictions.tolist() == [2, 2, 2]
    assert scores.confusion_matrix(given).tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]


def test_metrics_by_hand():
    given = scores.answers(LABELS, one_hot(PREDICTED))
    assert scores.recall(given.hits, given.support).tolist() == [2 / 3, 1 / 2, 1]
    assert scores.precision(given.hits, given.predictions).tolist() == [1, 1 / 2, 1 / 2]
    np.testing.assert_allclose(
        scores.f1(given.hits, given.support, given.predictions), [4 / 5, 1 / 2, 2 / 3]
    )
    assert scores.balanced_accuracy(given.hits, given.support) == pytest.approx(13 / 18)
    assert scores.macro_f1(given.hits, given.support, given.predictions) == pytest.approx(59 / 90)


def test_metrics_equal_scikit_learn():
    labels, probabilities = random_answers()
    given = scores.answers(labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    precision, recall, f1, support = reference.precision_recall_fscore_support(labels, predicted)
    np.testing.assert_allclose(scores.precision(given.hits, given.predictions), precision)
    np.testing.assert_allclose(scores.recall(given.hits, given.support), recall)
    np.testing.assert_allclose(scores.f1(given.hits, given.support, given.predictions), f1)
    assert given.support.tolist() == support.tolist()
    assert scores.balanced_accuracy(given.hits, given.support) == pytest.approx(
        reference.balanced_accuracy_score(labels, predicted)
    )
    assert scores.macro_f1(given.hits, given.support, given.predictions) == pytest.approx(
        reference.f1_score(labels, predicted, average="macro")
    )
    assert given.loss.mean() == pytest.approx(reference.log_loss(labels, probabilities))
    np.testing.assert_array_equal(
        scores.confusion_matrix(given), reference.confusion_matrix(labels, predicted)
    )


def test_a_class_without_images_is_left_out_of_the_means():
    labels = np.array([0, 0, 2, 2])
    given = scores.answers(labels, one_hot(np.array([0, 1, 2, 2])))
    assert np.isnan(scores.recall(given.hits, given.support)[1])
    assert scores.balanced_accuracy(given.hits, given.support) == 0.75
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = reference.f1_score(labels, given.predicted, labels=[0, 2], average="macro")
    assert scores.macro_f1(given.hits, given.support, given.predictions) == pytest.approx(expected)


def test_precision_of_a_class_never_predicted_is_undefined():
    given = scores.answers(np.array([0, 1]), one_hot(np.array([0, 0]), classes=2))
    assert np.isnan(scores.precision(given.hits, given.predictions)[1])
    assert scores.f1(given.hits, given.support, given.predictions)[1] == 0


def test_an_impossible_truth_costs_36_nats_not_infinity():
    given = scores.answers(np.array([1]), np.array([[1.0, 0.0]]))
    assert given.loss[0] == pytest.approx(36.04, abs=0.01)


@pytest.mark.parametrize(
    ("confidence", "expected"), [(0.0, 0), (0.1, 0), (0.1001, 1), (0.95, 9), (1.0, 9)]
)
def test_calibration_bins_are_open_below(confidence, expected):
    assert scores.calibration_bin(np.array([confidence]), 10)[0] == expected


def test_calibration_error_by_hand():
    # Bin (0.5, 0.75]: confidences 0.6 and 0.7, one right: gap |1 - 1.3| = 0.3.
    # Bin (0.75, 1]: 0.9 and 0.8, both right: gap |2 - 1.7| = 0.3.
    confidence = np.array([0.6, 0.7, 0.9, 0.8])
    given = scores.answers(np.array([0, 1, 0, 0]), np.stack([confidence, 1 - confidence], axis=1))
    assert scores.expected_calibration_error(given, 4) == pytest.approx(0.6 / 4)


def test_reliability_by_hand():
    confidence = np.array([0.6, 0.7, 0.9, 0.8])
    given = scores.answers(np.array([0, 1, 0, 0]), np.stack([confidence, 1 - confidence], axis=1))
    bins = scores.reliability(given, 4)
    assert bins.images.tolist() == [0, 0, 2, 2]
    np.testing.assert_allclose(bins.confidence[2:], [0.65, 0.85])
    np.testing.assert_allclose(bins.accuracy[2:], [0.5, 1.0])
    assert np.isnan(bins.accuracy[:2]).all()


def test_place_counts_the_more_probable_classes():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.4, 0.2, 0.4]])
    given = scores.answers(np.array([0, 2, 2]), probabilities)
    # Of equals the first is the answer, and therefore before the other.
    assert given.place.tolist() == [0, 2, 1]


@pytest.mark.parametrize("k", [1, 2, 5])
def test_places_give_top_k_accuracy(k):
    labels, probabilities = random_answers()
    expected = reference.top_k_accuracy_score(labels, probabilities, k=k)
    assert (scores.answers(labels, probabilities).place < k).mean() == pytest.approx(expected)


def test_brier_by_hand():
    # (0.7 - 1)^2 + 0.2^2 + 0.1^2
    given = scores.answers(np.array([0]), np.array([[0.7, 0.2, 0.1]]))
    assert given.brier.tolist() == pytest.approx([0.14])
    worst = scores.answers(np.array([1]), np.array([[1.0, 0.0]]))
    assert worst.brier.tolist() == [scores.LARGEST_BRIER]
    assert worst.loss.tolist() == [scores.LARGEST_LOSS]


def test_brier_of_two_classes_is_twice_scikit_learns():
    labels, probabilities = random_answers(classes=2)
    expected = 2 * reference.brier_score_loss(labels, probabilities[:, 1])
    assert scores.answers(labels, probabilities).brier.mean() == pytest.approx(expected)
