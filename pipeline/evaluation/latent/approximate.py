"""Neighbours among more than a million vectors: found by faiss, ranked by their exact cosines."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import PipelineError
from pipeline.evaluation.latent.search import Neighbours, Rows, Vectors, nearest
from pipeline.files import atomic_path
from pipeline.progress import progress_bar

MOST_EXACT = 1_000_000
# An inverted file (Jégou, Douze and Schmid 2011): vectors lie in lists by their nearest centre, and
# a query looks into the lists of the centres nearest to it. Half precision halves its size.
_LISTS_PER_ROOT = 4  # lists for each root of the number of vectors
_LOOKED_INTO = 64  # lists
_TRAINED_ON = 64  # vectors for each centre
_CANDIDATES = 10  # of these, for each neighbour, the exact cosines are computed
_ADDED_AT_ONCE = 65536
_SEED = 0


def search(vectors: Vectors, queries: Vectors, k: int, index: Path) -> Neighbours:
    """Find the k nearest rows: exactly up to a million, approximately beyond.

    Args:
        vectors: m x d, of length 1 each; may be memory-mapped.
        queries: n x d, likewise.
        k: at most m.
        index: where the approximate index is kept; it is made where there is none. Its name must
            change with the vectors.

    Raises:
        PipelineError: k is more than m, or faiss is needed and not installed.
    """
    if len(vectors) <= MOST_EXACT or k > len(vectors):
        return nearest(vectors, queries, k)
    faiss = _faiss(len(vectors))
    found = _opened(faiss, vectors, index)
    faiss.extract_index_ivf(found).nprobe = _LOOKED_INTO
    _, candidates = found.search(np.ascontiguousarray(queries), _CANDIDATES * k)
    return _ranked(vectors, queries, candidates, k)


def _faiss(count: int) -> Any:
    try:
        import faiss
    except ImportError as error:
        raise PipelineError(
            f"{count:,} images are more than the {MOST_EXACT:,} that are searched exactly, and"
            " faiss is not installed; pip install 'convoy[search]'"
        ) from error
    return faiss


def _opened(faiss: Any, vectors: Vectors, path: Path) -> Any:
    """Read the index, or make and keep it where there is none that can be read."""
    if path.exists():
        try:
            found = faiss.read_index(str(path))
        except RuntimeError:  # of a damaged file; it is made again
            pass
        else:
            if (found.ntotal, found.d) == vectors.shape:
                return found
    n, d = vectors.shape
    lists = max(int(_LISTS_PER_ROOT * n**0.5), 1)
    made = faiss.index_factory(d, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
    generator = np.random.default_rng(_SEED)
    drawn = np.sort(generator.choice(n, min(_TRAINED_ON * lists, n), replace=False))
    with progress_bar(n, "search index") as bar:
        made.train(np.ascontiguousarray(vectors[drawn]))
        for start in range(0, n, _ADDED_AT_ONCE):
            block = np.ascontiguousarray(vectors[start : start + _ADDED_AT_ONCE])
            made.add(block)
            bar.update(len(block))
    with atomic_path(path) as temporary:
        faiss.write_index(made, str(temporary))
    return made


def _ranked(vectors: Vectors, queries: Vectors, candidates: Rows, k: int) -> Neighbours:
    """Keep the k candidates with the largest cosines; equals in the order of their rows."""
    rows, similarity = [], []
    for query, found in zip(queries, candidates, strict=True):
        some = np.sort(found[found >= 0])  # -1 where the lists held too few
        cosine = vectors[some] @ query
        order = np.argsort(-cosine, kind="stable")[:k]
        if len(order) < k:
            return nearest(vectors, queries, k)
        rows.append(some[order])
        similarity.append(cosine[order])
    return Neighbours(np.array(rows, np.intp), np.array(similarity, np.float32))
