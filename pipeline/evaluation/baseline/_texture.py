"""Texture features of grey images (n x h x w, heights in [0, 1]), all images at once.

Each is a callable that carries the names of its columns.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.float32]
Features = npt.NDArray[np.float32]

_EPSILON = 1e-6


class _GradientHistogram:
    """Histograms of gradient orientations in 2 x 2 cells, 8 unsigned orientations each.

    Weighted by the gradient's magnitude and normalised to unit length over the image
    (Dalal and Triggs 2005, with the image as the only block).
    """

    cells, orientations = 2, 8

    @property
    def names(self) -> list[str]:
        width = 180 / self.orientations
        return [
            f"gradient {angle * width:g} deg in cell {row + 1},{column + 1}"
            for row in range(self.cells)
            for column in range(self.cells)
            for angle in range(self.orientations)
        ]

    def __call__(self, grey: Grey) -> Features:
        padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
        dx = padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]
        dy = padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]
        # Bins are centred on 0, 22.5, ... degrees: an upright edge does not sit on a border.
        angle = np.arctan2(dy, dx) / np.pi * self.orientations
        orientation = np.rint(angle).astype(np.intp) % self.orientations
        _, height, width = grey.shape
        row = np.arange(height)[:, None] * self.cells // height
        column = np.arange(width)[None, :] * self.cells // width
        bins = ((row * self.cells + column) * self.orientations)[None] + orientation
        counts = _count(bins, self.cells**2 * self.orientations, np.hypot(dx, dy))
        length = np.linalg.norm(counts, axis=1, keepdims=True)
        return np.asarray(counts / (length + _EPSILON), np.float32)


class _LocalBinaryPatterns:
    """Shares of the ten rotation-invariant uniform patterns of 8 neighbours at distance 1.

    Pattern i (0 to 8) has i neighbours as high as the middle or higher, all in one arc; the last
    is any other (Ojala, Pietikainen and Maenpaa 2002, LBP riu2, square neighbourhood).
    """

    names: Sequence[str] = (
        *(f"local pattern, {i} of 8 higher" for i in range(9)),
        "local pattern, not uniform",
    )
    _ring = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))

    def __call__(self, grey: Grey) -> Features:
        _, height, width = grey.shape
        padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
        higher = [padded[:, y : y + height, x : x + width] >= grey for y, x in self._ring]
        ones = np.sum(higher, axis=0)
        changes = sum(
            (a != b).astype(np.intp) for a, b in zip(higher, higher[1:] + higher[:1], strict=True)
        )
        pattern = np.where(changes <= 2, ones, 9)
        return np.asarray(_count(pattern, 10) / (height * width), np.float32)


class _Cooccurrence:
    """Statistics of the grey-level co-occurrence matrix of 8 levels, for four directions.

    Of neighbours at distance 1: contrast, homogeneity, energy and correlation (Haralick,
    Shanmugam and Dinstein 1973). 0 where the image is one pixel wide or high.
    """

    levels = 8
    # Rows down and columns right, from a pixel to its neighbour.
    directions = ((0, 1), (1, 1), (1, 0), (1, -1))
    names: Sequence[str] = tuple(
        f"{statistic} at {angle} deg"
        for angle in (0, 45, 90, 135)
        for statistic in ("contrast", "homogeneity", "energy", "correlation")
    )

    def __call__(self, grey: Grey) -> Features:
        level = np.minimum((grey * self.levels).astype(np.intp), self.levels - 1)
        return np.concatenate([self._statistics(level, *step) for step in self.directions], axis=1)

    def _statistics(self, level: npt.NDArray[np.intp], down: int, right: int) -> Features:
        _, height, width = level.shape
        east, west = max(right, 0), max(-right, 0)
        start = level[:, : height - down, west : width - east]
        end = level[:, down:, east : width - west]
        matrix = _count(start * self.levels + end, self.levels**2)
        share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        i, j = (part.ravel() for part in np.indices((self.levels, self.levels)))
        mean_i, mean_j = share @ i, share @ j
        spread = np.sqrt(
            np.maximum(share @ i**2 - mean_i**2, 0) * np.maximum(share @ j**2 - mean_j**2, 0)
        )
        covariance = share @ (i * j) - mean_i * mean_j
        flat = spread < _EPSILON
        return np.stack(
            [
                share @ (i - j) ** 2 / (self.levels - 1) ** 2,
                share @ (1 / (1 + (i - j) ** 2)),
                np.sqrt((share**2).sum(axis=1)),
                # One level everywhere follows itself perfectly, as scikit-image has it.
                np.where(flat, share.sum(axis=1), covariance / np.where(flat, 1, spread)),
            ],
            axis=1,
        ).astype(np.float32)


def _count(
    bins: npt.NDArray[np.integer], size: int, weights: Grey | None = None
) -> npt.NDArray[np.float64]:
    """Count (or sum the weights of) each bin in each image: n x size."""
    n = len(bins)
    offset = (np.arange(n) * size).reshape(-1, *(1,) * (bins.ndim - 1))
    flat = (bins + offset).ravel()
    counted = np.bincount(
        flat, weights=None if weights is None else weights.ravel(), minlength=n * size
    )
    return counted.reshape(n, size).astype(np.float64)


gradient_histogram = _GradientHistogram()
local_binary_patterns = _LocalBinaryPatterns()
cooccurrence = _Cooccurrence()
