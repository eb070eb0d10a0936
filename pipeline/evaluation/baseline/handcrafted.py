"""Hand-crafted features of images: the form of a height map, and texture.

Any size, grey or RGB, uint8 or uint16. Form and texture are read off the luminance, as height in
[0, 1]; of colours, each channel's mean and spread remain. Every feature is a share, a mean or a
normalised count, so that sizes compare.
"""

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.evaluation.baseline._texture import (
    cooccurrence,
    gradient_histogram,
    local_binary_patterns,
)

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Features = npt.NDArray[np.float32]

_HISTOGRAM_BINS = 8
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_BANDS = 8
# Rec. 601 luma, as OpenCV and Pillow convert RGB to grey.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def extract(batches: Iterable[Pixels]) -> Features:
    """Return the features of all images: n x d, named by `feature_names`.

    Args:
        batches: arrays of n x height x width x channels, uint8 or uint16, 1 or 3 channels.
    """
    return np.concatenate([_features(batch) for batch in batches])


def feature_names(channels: int) -> list[str]:
    """Name the columns of `extract` for images of this many channels."""
    sides = [f"{i + 1}/{_BANDS}" for i in range(_BANDS)]
    return [
        *(f"{what} of channel {c}" for what in ("mean", "spread") for c in range(channels)),
        *(f"height quantile {q:g}" for q in _QUANTILES),
        *(f"height histogram {i + 1}/{_HISTOGRAM_BINS}" for i in range(_HISTOGRAM_BINS)),
        "threshold",
        "covered area",
        "perimeter",
        *(f"{line} {side}" for line in ("row", "column") for side in sides),
        *(f"{line} diagonal {side}" for line in ("falling", "rising") for side in sides),
        *gradient_histogram.names,
        *local_binary_patterns.names,
        *cooccurrence.names,
    ]


def _features(images: Pixels) -> Features:
    heights = images.astype(np.float32) / np.iinfo(images.dtype).max
    grey = np.asarray(heights @ _LUMA if images.shape[3] == 3 else heights[..., 0], np.float32)
    parts = [
        heights.mean(axis=(1, 2)),
        heights.std(axis=(1, 2)),
        _distribution(grey),
        np.stack([_region(image) for image in grey]),
        np.stack([_profiles(image) for image in grey]),
        gradient_histogram(grey),
        local_binary_patterns(grey),
        cooccurrence(grey),
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _distribution(grey: npt.NDArray[np.float32]) -> Features:
    """Quantiles and histogram of the heights (n x h x w): n x (quantiles + bins)."""
    flat = grey.reshape(len(grey), -1)
    quantiles = np.quantile(flat, _QUANTILES, axis=1).T
    level = np.minimum((flat * _HISTOGRAM_BINS).astype(np.intp), _HISTOGRAM_BINS - 1)
    row = np.arange(len(flat))[:, None] * _HISTOGRAM_BINS
    counts = np.bincount((level + row).ravel(), minlength=len(flat) * _HISTOGRAM_BINS)
    histogram = counts.reshape(len(flat), _HISTOGRAM_BINS) / flat.shape[1]
    return np.concatenate([quantiles, histogram], axis=1).astype(np.float32)


def _region(image: npt.NDArray[np.float32]) -> Features:
    """Otsu's threshold (1979), the share of the area above it, and that region's perimeter.

    The perimeter counts outer and inner contours, in units of the image's own perimeter.
    """
    levels = np.round(image * 255).astype(np.uint8)
    threshold, mask = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    # A margin closes regions that the image's edge cuts.
    framed = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    contours, _ = cv2.findContours(framed, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    perimeter = sum(cv2.arcLength(contour, True) for contour in contours)
    return np.array(
        [threshold / 255, mask.mean(), perimeter / (2 * sum(image.shape))], dtype=np.float32
    )


def _profiles(image: npt.NDArray[np.float32]) -> Features:
    """Mean heights in bands of rows and columns, and in blocks along both diagonals."""
    grid = cv2.resize(image, (_BANDS, _BANDS), interpolation=cv2.INTER_AREA)
    lines = [grid.mean(axis=1), grid.mean(axis=0), grid.diagonal(), grid[::-1].diagonal()]
    return np.concatenate(lines).astype(np.float32)
