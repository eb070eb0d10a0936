import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from pipeline.errors import PipelineError
from pipeline.evaluation.latent import retrieval
from pipeline.evaluation.latent.retrieval import (
    Neighbours,
    nearest,
    retrieval_block,
    spread_queries,
)


@pytest.fixture
def vectors():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 8)).astype(np.float32), rng.normal(size=(25, 8)).astype(np.float32)


def test_nearest_equals_a_full_sort(vectors):
    base, queries = vectors
    similarity = cosine_similarity(queries, base)
    order = np.argsort(-similarity, axis=1)[:, :7]
    found = nearest(base, queries, 7)
    np.testing.assert_array_equal(found.rows, order)
    np.testing.assert_allclose(
        found.similarity, np.take_along_axis(similarity, order, axis=1), atol=1e-6
    )


def test_blocks_do_not_matter(vectors, monkeypatch):
    base, queries = vectors
    whole = nearest(base, queries, 7)
    monkeypatch.setattr(retrieval, "_BASE_AT_ONCE", 4)
    monkeypatch.setattr(retrieval, "_QUERIES_AT_ONCE", 3)
    np.testing.assert_array_equal(nearest(base, queries, 7).rows, whole.rows)


@pytest.mark.parametrize("block", [2, 100])
def test_of_equals_the_first_comes_first(monkeypatch, block):
    monkeypatch.setattr(retrieval, "_BASE_AT_ONCE", block)
    base = np.array([[0, 1], [1, 0], [2, 0], [3, 0], [0, 2]], np.float32)
    assert nearest(base, np.array([[1, 0]], np.float32), 2).rows.tolist() == [[1, 2]]


def test_a_vector_of_zeros_is_similar_to_nothing():
    found = nearest(np.zeros((2, 3), np.float32), np.ones((1, 3), np.float32), 2)
    assert found.similarity.tolist() == [[0, 0]]


def test_more_neighbours_than_images():
    with pytest.raises(PipelineError, match=r"asks for 9 neighbours, .* has 2 images; lower embed"):
        nearest(np.ones((2, 3), np.float32), np.ones((1, 3), np.float32), 9)


def test_recall_and_precision_by_hand():
    base_labels = np.array([0, 0, 1, 1])
    rows = np.array([[0, 2, 3], [2, 0, 1], [2, 3, 0], [0, 1, 2]])
    neighbours = Neighbours(rows, np.ones((4, 3), np.float32))
    block = retrieval_block(neighbours, base_labels, np.array([0, 0, 1, 1]), [1, 3])
    assert list(block) == ["recall_at_1", "precision_at_1", "recall_at_3", "precision_at_3"]
    assert block["recall_at_1"]["value"] == 2 / 4
    assert block["recall_at_3"]["value"] == 1.0
    assert block["precision_at_3"]["value"] == pytest.approx((1 + 2 + 2 + 1) / 3 / 4)
    assert block["recall_at_3"]["ci95"] == pytest.approx([0.5101, 1.0], abs=1e-4)


def test_queries_spread_over_the_classes():
    labels = np.repeat([0, 1, 2], [50, 3, 1])
    rows = spread_queries(labels, 6, seed=0)
    assert np.bincount(labels[rows]).tolist() == [3, 2, 1]
    assert len(spread_queries(labels, 100, seed=0)) == 54
    np.testing.assert_array_equal(rows, spread_queries(labels, 6, seed=0))
    # More classes than rows: as many classes as rows.
    assert len(set(spread_queries(np.arange(20), 8, seed=1))) == 8
