import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from pipeline.evaluation.latent.outliers import find_outliers, unlike_training
from pipeline.evaluation.latent.search import unit


def test_an_image_among_another_class_is_an_outlier_of_its_own():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [80, 40, 5])
    vectors = unit(rng.normal(size=(125, 12)) * 0.2 + 2 * np.eye(12)[labels])
    vectors[7] = unit(rng.normal(size=(1, 12)) * 0.2 + 2 * np.eye(12)[[1]])[0]
    found = find_outliers(vectors, labels, np.arange(125))
    assert found.rows[0] == 7
    assert len(found.rows) < 4
    assert np.isnan(found.score[120:]).all()  # too few of a class
    similarity = cosine_similarity(vectors[:80])
    np.fill_diagonal(similarity, -2)
    mean = np.sort(similarity, axis=1)[:, -10:].mean(axis=1)
    np.testing.assert_allclose(found.similarity[:80], mean, atol=1e-6)
    away = np.log(1 - mean)
    apart = away - np.median(away)
    score = 0.6745 * apart / np.median(np.abs(apart))
    np.testing.assert_allclose(found.score[:80], score, rtol=1e-3, atol=1e-3)
    some = find_outliers(vectors, labels, np.arange(0, 125, 2))
    assert np.isnan(some.score[1::2]).all()
    np.testing.assert_allclose(some.similarity[:80:2], mean[::2], atol=1e-6)


def test_equal_images_are_no_outliers():
    vectors = unit(np.ones((30, 4)))
    found = find_outliers(vectors, np.zeros(30, int), np.arange(30))
    assert len(found.rows) == 0
    assert (found.score == 0).all()


def test_the_threshold_accepts_95_per_cent_of_validation():
    validation = np.linspace(0.5, 1.0, 101)
    threshold, below = unlike_training(validation, np.array([0.9, 0.52, 0.3, 0.53]))
    assert threshold == pytest.approx(0.525)
    assert below.tolist() == [2, 1]
