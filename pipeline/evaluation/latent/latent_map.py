"""Latent vectors as points of a plane."""

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

# t-SNE on more takes minutes.
_MOST_TSNE_POINTS = 3000
_TSNE_DIMENSIONS = 50
_PERPLEXITY = 30.0


def project(vectors: npt.NDArray[np.float32], seed: int) -> tuple[npt.NDArray[np.float64], str]:
    """Place n vectors in the plane: t-SNE over 50 principal components, or PCA beyond 3000.

    Args:
        vectors: n x d.
        seed: of t-SNE.

    Returns:
        n x 2 points, and the name of the method.
    """
    n, d = vectors.shape
    if n < 2:
        return np.zeros((n, 2)), "PCA"
    components = min(_TSNE_DIMENSIONS, n, d)
    # t-SNE wants more points than perplexity; so few need no map that finds clusters.
    if n > _MOST_TSNE_POINTS or n <= 4 or components < 2:
        flat = PCA(min(2, components), svd_solver="full").fit_transform(vectors)
        return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1]))).astype(np.float64), "PCA"
    mapper = TSNE(perplexity=min(_PERPLEXITY, (n - 1) / 3), init="pca", random_state=seed, n_jobs=1)
    # One thread: the order in which threads add up forces would show in the picture, and
    # changing the size of a thread pool that torch shares costs 20 ms at each of 1000 steps.
    with threadpool_limits(1):
        reduced = PCA(components, svd_solver="full").fit_transform(vectors.astype(np.float64))
        points = mapper.fit_transform(reduced)
    return points.astype(np.float64), "t-SNE"
