import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from pipeline.evaluation.latent import retrieval
from pipeline.evaluation.latent.retrieval import (
    average_precisions,
    mean_figure,
    retrieval_block,
    spread_queries,
)
from pipeline.evaluation.latent.search import Neighbours, unit


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


@pytest.mark.parametrize("at_once", [2**23, 400])
def test_average_precisions_are_those_of_scikit_learn(monkeypatch, at_once):
    monkeypatch.setattr(retrieval, "_SIMILARITIES_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    # Small whole numbers: many cosines are equal, down to the last bit.
    base = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 120)]
    base[:60] = unit(rng.normal(size=(60, 4)))
    queries = np.concatenate([unit(rng.normal(size=(20, 4))), np.eye(4, dtype=np.float32)])
    base_labels, query_labels = rng.integers(0, 3, 120), rng.integers(0, 4, 24)
    found = average_precisions(base, base_labels, queries, query_labels)
    for value, query, label in zip(found, queries, query_labels, strict=True):
        if label == 3:  # of which the base has no image
            assert np.isnan(value)
        else:
            expected = average_precision_score(base_labels == label, base @ query)
            assert value == pytest.approx(expected)


def test_the_interval_of_a_mean_never_collapses():
    values = np.random.default_rng(0).beta(8, 1, 400)
    found = mean_figure(values)
    error = 1.96 * values.std(ddof=1) / np.sqrt(400)
    assert found["value"] == pytest.approx(values.mean())
    assert found["ci95"] == pytest.approx(
        [found["value"] - error, found["value"] + error], rel=0.01
    )
    assert mean_figure(np.ones(20))["ci95"] == pytest.approx([0.8389, 1.0], abs=1e-4)  # Wilson's
    low, high = mean_figure(np.zeros(20), -1.0)["ci95"]
    assert low == -high < -0.05
    assert mean_figure(np.empty(0), -1.0) == {"value": None, "ci95": [-1.0, 1.0]}


def test_queries_spread_over_the_classes():
    labels = np.repeat([0, 1, 2], [50, 3, 1])
    rows = spread_queries(labels, 6, seed=0)
    assert np.bincount(labels[rows]).tolist() == [3, 2, 1]
    assert len(spread_queries(labels, 100, seed=0)) == 54
    np.testing.assert_array_equal(rows, spread_queries(labels, 6, seed=0))
    # More classes than rows: as many classes as rows.
    assert len(set(spread_queries(np.arange(20), 8, seed=1))) == 8
