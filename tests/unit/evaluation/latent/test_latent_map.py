import re

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from pipeline import progress
from pipeline.evaluation.latent import latent_map
from pipeline.evaluation.latent.latent_map import project


def clusters(n=90, d=60):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 3
    return (rng.normal(size=(n, d)) + 6 * np.eye(d)[labels]).astype(np.float32), labels


def test_clusters_stay_apart_and_the_map_repeats():
    vectors, labels = clusters()
    points, method = project(vectors, seed=0)
    assert (points.shape, method) == ((90, 2), "t-SNE")
    assert KNeighborsClassifier(5).fit(points, labels).score(points, labels) == 1.0
    np.testing.assert_array_equal(points, project(vectors, seed=0)[0])


def test_the_bar_shows_how_far_it_is(monkeypatch, capsys):
    for name in ("_FIRST_S", "_LINE_S"):
        monkeypatch.setattr(progress, name, 0.001)
    project(clusters()[0], seed=0)
    shown = capsys.readouterr()
    assert shown.out == ""
    done = [int(found) for found in re.findall(r"t-SNE of 90 images: .* (\d+)/1000 ", shown.err)]
    assert done == sorted(done)
    assert len(set(done)) > 2


def test_of_many_points_some_place_the_others(monkeypatch):
    """Each of the others, by hand: in the hull of the ten nearest, and nearer to nearer ones."""
    monkeypatch.setattr(latent_map, "_MOST_TSNE_POINTS", 60)
    vectors, labels = clusters(n=300, d=8)
    points, method = project(vectors, seed=3)
    assert (points.shape, method) == ((300, 2), "t-SNE of 60 of them")
    drawn = np.random.default_rng(3).permutation(300)[:60]
    alone, _ = project(vectors[drawn], seed=3)
    np.testing.assert_allclose(points[drawn], alone, atol=1e-6)
    apart = np.linalg.norm(vectors[:, None] - vectors[None, drawn], axis=2)
    for i in set(range(300)) - set(drawn):
        near = np.argsort(apart[i])[:10]
        weights = np.exp(-0.5 * (apart[i, near] / apart[i, near[5]]) ** 2)
        expected = weights @ alone[near] / weights.sum()
        np.testing.assert_allclose(points[i], expected, atol=1e-3)
    assert KNeighborsClassifier(5).fit(points, labels).score(points, labels) == 1.0
    np.testing.assert_array_equal(points, project(vectors, seed=3)[0])


@pytest.mark.parametrize("shape", [(1, 5), (2, 5), (5, 3), (8, 1)])
def test_few_points_or_dimensions(shape):
    points, _ = project(np.random.default_rng(0).normal(size=shape).astype(np.float32), seed=0)
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()
