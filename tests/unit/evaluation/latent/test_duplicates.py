import numpy as np
import pytest
from scipy.spatial.distance import cdist

from pipeline.evaluation.latent.duplicates import NEIGHBOURS, find_duplicates, intrinsic_dimension
from pipeline.evaluation.latent.search import nearest_others, unit


def points(n, dimension, seed=0, d=32):
    """Scatter points over a surface of few dimensions in a space of many."""
    rng = np.random.default_rng(seed)
    flat = rng.uniform(-1, 1, (n, dimension)) @ rng.normal(size=(dimension, d)) * 0.1
    return unit(flat + np.eye(d)[0] * 5)


def find(vectors, labels, rows=None):
    rows = np.arange(len(vectors)) if rows is None else rows
    k = min(NEIGHBOURS, len(vectors) - 1)
    return find_duplicates(vectors, labels, rows, nearest_others(vectors, rows, k))


@pytest.mark.parametrize("dimension", [2, 6])
def test_the_dimension_is_that_of_the_surface(dimension):
    vectors = points(1000, dimension)
    distances = np.sort(cdist(vectors, vectors), axis=1)[:, 1:3]
    assert intrinsic_dimension(distances) == pytest.approx(dimension, rel=0.15)
    assert np.isnan(intrinsic_dimension(np.zeros((50, 3))))


def test_points_without_copies_have_no_duplicates():
    """At the level 0.05, one set in twenty would have one pair: of eight sets, at most two do."""
    none = np.zeros(400, int)
    assert sum(find(points(400, 4, seed), none).found > 0 for seed in range(8)) <= 2


def test_copies_are_found_wherever_they_are_dense_or_sparse():
    rng = np.random.default_rng(1)
    vectors = np.concatenate([points(300, 4), points(300, 4, 1)])
    vectors[300:] = unit(vectors[300:] + 20 * np.eye(32)[31])  # thirty times as dense
    first = np.array([5, 100, 350, 500])
    scale = np.where(first < 300, 1e-4, 1e-5)[:, None]
    near = unit(vectors[first] + scale * rng.normal(size=(4, 32)))
    third = unit(vectors[first[:1]] + scale[:1] * rng.normal(size=(1, 32)))
    whole = np.concatenate([vectors, near, third]).astype(np.float32)
    found = find(whole, np.zeros(len(whole), int))
    assert [group.tolist() for group in found.groups] == [
        [5, 600, 604],
        [100, 601],
        [350, 602],
        [500, 603],
    ]
    pairs = set(zip(found.first[: found.found], found.second[: found.found], strict=True))
    assert pairs == {(5, 600), (5, 604), (600, 604), (100, 601), (350, 602), (500, 603)}
    for first_, second, cosine in zip(found.first, found.second, found.similarity, strict=True):
        assert first_ < second
        assert cosine == pytest.approx(whole[first_] @ whole[second], abs=1e-6)
    assert (np.diff(found.probability) >= 0).all()


@pytest.mark.parametrize("few", [1, 2, 3, 5])
def test_a_class_of_few_images_is_no_group_of_copies(few):
    """Its images are close to each other, and all others are far."""
    rare = unit(points(few, 4, 3) + 30 * np.eye(32)[20])
    vectors = np.concatenate([points(300, 4), rare])
    labels = np.repeat([0, 1], [300, few])
    assert find(vectors, labels).found == 0
    if few > 1:
        assert find(vectors, np.zeros(300 + few, int)).found > 0  # which the labels prevented


def test_equal_images_and_few_images():
    vectors = points(200, 4)
    vectors[:30] = vectors[0]  # more copies than neighbours are looked at
    found = find(vectors, np.zeros(200, int))
    assert found.groups[0].tolist() == list(range(30))
    assert find(np.tile(vectors[:1], (50, 1)), np.zeros(50, int)).found == 0
    for few in (2, 3, 15):
        assert find(vectors[:few], np.zeros(few, int)).groups == []
