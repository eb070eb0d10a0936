import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from pipeline.errors import PipelineError
from pipeline.evaluation.latent import search
from pipeline.evaluation.latent.search import nearest, nearest_others, unit


def vectors(seed, n, d=8):
    return unit(np.random.default_rng(seed).normal(size=(n, d)))


@pytest.mark.parametrize("queries", [1, 32, 75])
@pytest.mark.parametrize("blocks", [(16384, 512), (7, 3)])
@pytest.mark.parametrize("threads_from", [0, 10**8])
def test_nearest_equals_a_full_sort(monkeypatch, queries, blocks, threads_from):
    monkeypatch.setattr(search, "_WORTH_THREADS", threads_from)
    monkeypatch.setattr(search, "_BASE_AT_ONCE", blocks[0])
    monkeypatch.setattr(search, "_QUERIES_AT_ONCE", blocks[1])
    base, asked = vectors(0, 203), vectors(1, queries)
    similarity = cosine_similarity(asked, base)
    order = np.argsort(-similarity, axis=1)[:, :11]
    found = nearest(base, asked, 11)
    np.testing.assert_array_equal(found.rows, order)
    np.testing.assert_allclose(
        found.similarity, np.take_along_axis(similarity, order, axis=1), atol=1e-6
    )


@pytest.mark.parametrize("block", [2, 5, 100])
@pytest.mark.parametrize("queries", [1, 40])
def test_of_equals_the_first_comes_first(monkeypatch, block, queries):
    monkeypatch.setattr(search, "_WORTH_THREADS", 0)
    monkeypatch.setattr(search, "_BASE_AT_ONCE", block)
    base = np.tile(np.array([[0, 1], [1, 0], [1, 0], [1, 0], [0, 1]], np.float32), (8, 1))
    found = nearest(base, np.tile(np.array([[1, 0]], np.float32), (queries, 1)), 7)
    assert found.rows.tolist() == [[1, 2, 3, 6, 7, 8, 11]] * queries


def test_lengths_and_vectors_of_zeros():
    scaled = unit(np.array([[3, 4], [0, 0]], np.float32))
    np.testing.assert_allclose(scaled, [[0.6, 0.8], [0, 0]], atol=1e-7)
    assert nearest(scaled[1:], scaled[:1], 1).similarity.tolist() == [[0]]


def test_more_neighbours_than_images():
    with pytest.raises(PipelineError, match=r"expected at most 2 neighbours, .* got 9"):
        nearest(np.ones((2, 3), np.float32), np.ones((1, 3), np.float32), 9)


def test_an_image_is_not_its_own_neighbour():
    base = vectors(0, 60)
    rows = np.array([3, 17, 59])
    similarity = cosine_similarity(base[rows], base)
    similarity[np.arange(3), rows] = -2
    found = nearest_others(base, rows, 5)
    np.testing.assert_array_equal(found.rows, np.argsort(-similarity, axis=1)[:, :5])
    # Among more copies than neighbours an image need not find itself.
    copies = np.tile(base[:1], (9, 1))
    found = nearest_others(copies, np.arange(9), 2)
    assert found.rows.shape == (9, 2)
    assert not (found.rows == np.arange(9)[:, None]).any()
