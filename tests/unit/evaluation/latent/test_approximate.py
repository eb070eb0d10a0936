import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation.latent import approximate
from pipeline.evaluation.latent.approximate import search
from pipeline.evaluation.latent.search import nearest, unit

INDEX = Path("search/train-1.faiss")


@pytest.fixture
def many(monkeypatch):
    """Vectors in clusters, more than are searched exactly."""
    monkeypatch.setattr(approximate, "MOST_EXACT", 1000)
    rng = np.random.default_rng(0)
    return unit(rng.normal(size=(40, 16))[rng.integers(0, 40, 3000)] + rng.normal(size=(3000, 16)))


def test_neighbours_are_nearly_those_of_the_exact_search(many, monkeypatch, tmp_path):
    pytest.importorskip("faiss")
    monkeypatch.chdir(tmp_path)
    queries = unit(many[:50] + 0.1)
    exact = nearest(many, queries, 10)
    found = search(many, queries, 10, INDEX)
    same = [len(set(a) & set(b)) for a, b in zip(found.rows, exact.rows, strict=True)]
    assert np.mean(same) > 9.5
    cosines = np.einsum("nkd,nd->nk", many[found.rows], queries)
    np.testing.assert_allclose(found.similarity, cosines, atol=1e-6)
    assert (np.diff(found.similarity, axis=1) <= 0).all()
    kept = INDEX.read_bytes()
    np.testing.assert_array_equal(search(many, queries, 10, INDEX).rows, found.rows)
    assert INDEX.read_bytes() == kept
    INDEX.write_bytes(b"no index")
    np.testing.assert_array_equal(search(many, queries, 10, INDEX).rows, found.rows)


def test_without_faiss(many, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(PipelineError, match=r"^3,000 images are more than the 1,000 .* not insta"):
        search(many, many[:2], 3, tmp_path / "x.faiss")
    few = search(many[:1000], many[:2], 3, tmp_path / "x.faiss")
    assert few.rows[:, 0].tolist() == [0, 1]
    assert not list(tmp_path.iterdir())
