"""Latent vectors as points of a plane."""

import io
import re
from contextlib import redirect_stdout

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipeline.progress import Bar, progress_bar

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
    mapper = TSNE(
        perplexity=min(_PERPLEXITY, (n - 1) / 3),
        init="pca",
        random_state=seed,
        n_jobs=1,
        verbose=2,
    )
    # One thread: the order in which threads add up forces would show in the picture, and
    # changing the size of a thread pool that torch shares costs 20 ms at each of 1000 steps.
    with threadpool_limits(1), progress_bar(mapper.max_iter, f"t-SNE of {n} images", "step") as bar:
        reduced = PCA(components, svd_solver="full").fit_transform(vectors.astype(np.float64))
        with redirect_stdout(_Steps(bar)):
            points = mapper.fit_transform(reduced)
    return points.astype(np.float64), "t-SNE"


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
