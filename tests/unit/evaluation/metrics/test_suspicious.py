import numpy as np
import pytest

from pipeline.evaluation.metrics.predictions import Predictions
from pipeline.evaluation.metrics.suspicious import (
    find_suspects,
    share_of_wrong_labels,
    suspicious_labels,
)


def test_suspects_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9], [0.45, 0.55]])
    labels = np.array([0, 0, 0, 1, 1])
    # Thresholds: (0.9 + 0.7 + 0.2) / 3 = 0.6 and (0.9 + 0.55) / 2 = 0.725.
    found = find_suspects(labels, probabilities)
    assert found.rows.tolist() == [2]
    assert found.suggested.tolist() == [1]
    assert found.score.tolist() == pytest.approx([0.6])
    # The last image reaches no threshold and is not counted.
    assert found.joint.tolist() == [[2, 1], [0, 1]]


def test_of_several_reached_thresholds_the_most_probable_class_counts():
    labels = np.array([0, 1, 2])
    probabilities = np.array([[0.2, 0.35, 0.45], [0.3, 0.3, 0.4], [0.4, 0.2, 0.4]])
    found = find_suspects(labels, probabilities)
    assert found.joint.tolist() == [[0, 0, 1], [0, 0, 1], [1, 0, 0]]


def test_the_most_suspicious_comes_first():
    labels = np.array([0] * 6 + [1] * 6)
    chance = np.array([0.95, 0.9, 0.9, 0.9, 0.1, 0.02, 0.05, 0.05, 0.1, 0.1, 0.8, 0.99])
    found = find_suspects(labels, np.stack([chance, 1 - chance], axis=1))
    assert found.rows.tolist() == [11, 5, 4, 10]
    assert (np.diff(found.score) <= 0).all()


def test_a_class_without_images_is_never_suggested():
    found = find_suspects(np.array([0, 1]), np.array([[0.1, 0.2, 0.7], [0.1, 0.2, 0.7]]))
    assert found.joint[:, 2].tolist() == [0, 0, 0]


def test_equal_probabilities_raise_no_suspicion():
    assert find_suspects(np.zeros(7, int), np.full((7, 1), 0.1 + 0.2)).rows.size == 0


def test_share_of_wrong_labels_by_hand():
    # 1 of 4 counted of class 0, which has 8 images: 2. None of class 1.
    joint = np.array([[3, 1], [0, 2]])
    assert share_of_wrong_labels(joint, np.array([8, 12])) == pytest.approx(2 / 20)
    assert share_of_wrong_labels(np.zeros((2, 2), int), np.array([3, 3])) == 0.0


@pytest.mark.parametrize("noise", [0.03, 0.1])
def test_flipped_labels_are_found(noise):
    """A model that is right for 93 % of the images, and labels of which some were flipped."""
    rng = np.random.default_rng(0)
    count, classes = 1500, 10
    truth = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes)) + 4.0 * np.eye(classes)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    flipped = rng.random(count) < noise
    shift = rng.integers(1, classes, count)
    labels = np.where(flipped, (truth + shift) % classes, truth)
    found = find_suspects(labels, probabilities)
    hit = flipped[found.rows]
    # By chance precision would be the noise.
    assert hit.mean() > 0.75 > 5 * noise
    assert hit.sum() / flipped.sum() > 0.6
    assert flipped[found.rows[:20]].mean() >= 0.9
    right = found.suggested[hit] == truth[found.rows[hit]]
    assert right.mean() > 0.95
    estimate = share_of_wrong_labels(found.joint, np.bincount(labels, minlength=classes))
    assert estimate == pytest.approx(noise, abs=0.03)


def predictions(split, labels, chance):
    """Return posteriors of two classes on the images of a split."""
    names = [f"{split}/{row}.png" for row in range(len(labels))]
    posteriors = np.stack([np.array(chance), 1 - np.array(chance)], axis=1)
    return Predictions(("ant", "bee"), names, names, np.array(labels), posteriors)


def test_labels_of_several_splits_are_judged_together():
    # The same images as in the first test, shared out to two splits.
    given = {
        "val": predictions("val", [0, 0], [0.9, 0.7]),
        "test": predictions("test", [0, 1, 1], [0.2, 0.1, 0.45]),
    }
    found = suspicious_labels(given, 5)
    (one,) = found.listed
    assert (one.split, one.row, one.path) == ("test", 0, "test/0.png")
    assert (one.given, one.suggested) == ("ant", "bee")
    assert (one.probability, one.score) == (pytest.approx(0.8), pytest.approx(0.6))
    assert found.count == 1
    # One in three ants confidently is a bee: of 3 ants and 2 bees 1 is wrong.
    assert found.share_of_wrong_labels == pytest.approx(1 / 5)
    assert suspicious_labels(given, 0).listed == []
