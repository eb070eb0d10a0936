"""Latent vectors as points of a plane."""

import io
import re
from contextlib import redirect_stdout

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipeline.progress import Bar, progress_bar

# t-SNE on more takes minutes.
_MOST_TSNE_POINTS = 3000
_NEAREST = 10  # of these, by which each other point is placed
_TSNE_DIMENSIONS = 50
_PERPLEXITY = 30.0


def project(vectors: npt.NDArray[np.float32], seed: int) -> tuple[npt.NDArray[np.float64], str]:
    """Place n vectors in the plane by t-SNE over 50 principal components.

    Of more than 3000, t-SNE places 3000 drawn at random. Each other one then stands at the mean of
    the places of the nearest of these, weighted by a Gaussian of its distances. PCA places what is
    too little for t-SNE.

    Args:
        vectors: n x d.
        seed: of t-SNE, and of the draw.

    Returns:
        n x 2 points, and the name of the method.
    """
    n, d = vectors.shape
    if n < 2:
        return np.zeros((n, 2)), "PCA"
    components = min(_TSNE_DIMENSIONS, n, d)
    # t-SNE wants more points than perplexity; so few need no map that finds clusters.
    if n <= 4 or components < 2:
        flat = PCA(min(2, components), svd_solver="full").fit_transform(vectors)
        return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1]))).astype(np.float64), "PCA"
    # One thread: the order in which threads add up forces would show in the picture, and changing
    # the size of a thread pool that torch shares costs 20 ms at each of 1000 steps.
    with threadpool_limits(1):
        if n <= _MOST_TSNE_POINTS:
            reduced = PCA(components, svd_solver="full").fit_transform(vectors.astype(np.float64))
            return _tsne(reduced, seed), "t-SNE"
        drawn = np.random.default_rng(seed).permutation(n)[:_MOST_TSNE_POINTS]
        reducing = PCA(components, svd_solver="full").fit(vectors[drawn].astype(np.float64))
        reduced = reducing.transform(vectors)
        places = _beside(reduced, drawn, _tsne(reduced[drawn], seed))
    return places, f"t-SNE of {len(drawn)} of them"


def _tsne(vectors: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    mapper = TSNE(
        perplexity=min(_PERPLEXITY, (len(vectors) - 1) / 3),
        init="pca",
        random_state=seed,
        n_jobs=1,
        verbose=2,
    )
    title = f"t-SNE of {len(vectors)} images"
    with progress_bar(mapper.max_iter, title, "step") as bar, redirect_stdout(_Steps(bar)):
        points = mapper.fit_transform(vectors)
    return np.asarray(points, np.float64)


def _beside(
    vectors: npt.NDArray[np.float64],
    drawn: npt.NDArray[np.intp],
    places: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Place all vectors by the places of the drawn ones, which keep theirs."""
    distances, near = NearestNeighbors(n_neighbors=_NEAREST).fit(vectors[drawn]).kneighbors(vectors)
    width = np.maximum(distances[:, _NEAREST // 2, None], 1e-12)  # of a kernel that holds half
    weights = np.exp(-((distances / width) ** 2) / 2)
    weights /= weights.sum(axis=1, keepdims=True)
    found: npt.NDArray[np.float64]
    found = (weights[:, :, None] * places[near]).sum(axis=1)
    found[drawn] = places
    return found


class _Steps(io.TextIOBase):
    """Reads off scikit-learn's messages how far t-SNE is, since it takes no callback."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._done = bar, 0

    def write(self, text: str) -> int:
        if found := re.match(r"\[t-SNE\] Iteration (\d+): error", text):
            done = int(found.group(1))
            self._bar.update(done - self._done)
            self._done = done
        return len(text)
