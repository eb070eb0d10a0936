"""Hand-crafted features of images: form and heights, edges, texture, colours.

Any size, grey or RGB, uint8 or uint16. The luminance is taken for a height map: a pixel of 0 is
one where there is nothing, or nothing was measured, and counts neither for the mean of heights nor
for their distribution. Form is measured of the covered pixels, and of the higher ones among them,
those above Otsu's threshold (1979): a photograph covers its frame, and the second says more.
Heights are shares of the type's range, and lengths shares of the image's, so that sizes compare.
Edges and texture are those of the image stretched to its own range.
"""

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.evaluation.baseline import _appearance
from pipeline.evaluation.baseline._form import form, form_names, profile_names, profiles

Pixels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Features = npt.NDArray[np.float32]
Grey = npt.NDArray[np.float32]
Levels = npt.NDArray[np.uint8]

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
    return [name for names in feature_groups(channels).values() for name in names]


def feature_groups(channels: int) -> dict[str, list[str]]:
    """Return the names of the columns of `extract`, in their order, by what they tell."""
    sides = [f"{i + 1}/{_BANDS}" for i in range(_BANDS)]
    return {
        "heights (grey levels) and their distribution": [
            "mean height of covered pixels",
            "spread of covered heights",
            "volume",
            *(f"height quantile {q:g}" for q in _QUANTILES),
            *(f"height histogram {i + 1}/{_HISTOGRAM_BINS}" for i in range(_HISTOGRAM_BINS)),
            "threshold",
        ],
        "outline and size": form_names("covered pixels"),
        "outline and size of the higher part": form_names("higher part"),
        "heights along the object's length, width and diagonals": profile_names(),
        "heights by place in the image": [
            *(f"{line} {side}" for line in ("row", "column") for side in sides),
            *(f"{line} diagonal {side}" for line in ("falling", "rising") for side in sides),
        ],
        "directions of edges": _appearance.edge_names(),
        "fine texture": _appearance.texture_names(),
        **({"colours": _appearance.colour_names()} if channels == 3 else {}),
    }


def _features(images: Pixels) -> Features:
    heights = images.astype(np.float32) / np.iinfo(images.dtype).max
    grey = np.asarray(heights @ _LUMA if images.shape[3] == 3 else heights[..., 0], np.float32)
    levels = [_stretched(image) for image in grey]
    higher = [_higher(image > 0, level) for image, level in zip(grey, levels, strict=True)]
    masks = [(image > 0).astype(np.uint8) for image in grey]
    outlines, boxes = zip(*map(form, masks), strict=True)
    parts = [
        _distribution(grey),
        np.array([[threshold] for threshold, _ in higher]),
        np.stack(outlines),
        np.stack([form(mask)[0] for _, mask in higher]),
        profiles(grey, masks, boxes),
        _places(grey),
        _appearance.edges(levels),
        _appearance.texture(levels),
    ]
    if images.shape[3] == 3:
        parts.append(_appearance.colours(list(np.rint(heights * 255).astype(np.uint8))))
    return np.concatenate(parts, axis=1).astype(np.float32)


def _stretched(grey: Grey) -> Levels:
    """Bring an image to 8 bits, its lowest pixel to 0 and its highest to 255."""
    low, high = float(grey.min()), float(grey.max())
    return np.asarray(np.rint((grey - low) * (255 / max(high - low, 1e-9))), np.uint8)


def _higher(covered: npt.NDArray[np.bool_], levels: Levels) -> tuple[float, Levels]:
    """Return Otsu's threshold of the covered pixels, in [0, 1], and the pixels above it."""
    if not covered.any():
        return 0.0, np.zeros_like(levels)
    threshold, _ = cv2.threshold(levels[covered], 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return threshold / 255, (covered & (levels > threshold)).astype(np.uint8)


def _distribution(grey: Grey) -> npt.NDArray[np.float64]:
    """Mean, spread, volume, quantiles and histogram of the covered pixels of n x h x w heights.

    The volume is the sum of heights by all pixels. The histogram reaches from 0 to the image's
    highest pixel. All is 0 where nothing is covered.
    """
    # Sorted, an image's missing pixels come first.
    heights = np.sort(grey.reshape(len(grey), -1), axis=1).astype(np.float64)
    pixels = heights.shape[1]
    covered = np.count_nonzero(heights, axis=1)[:, None]
    count = np.maximum(covered, 1)
    mean = heights.sum(axis=1, keepdims=True) / count
    square = np.square(heights).sum(axis=1, keepdims=True) / count
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    place = pixels - count + np.array(_QUANTILES) * (count - 1)
    below = np.floor(place).astype(np.intp)
    low, high = (
        np.take_along_axis(heights, at, axis=1) for at in (below, np.minimum(below + 1, pixels - 1))
    )
    quantiles = low + (place - below) * (high - low)
    scaled = heights * (_HISTOGRAM_BINS / np.maximum(heights[:, -1:], 1e-9))
    bins = np.minimum(scaled.astype(np.intp), _HISTOGRAM_BINS - 1)
    row = np.arange(len(grey))[:, None] * _HISTOGRAM_BINS
    found = np.bincount((bins + row)[heights > 0], minlength=len(grey) * _HISTOGRAM_BINS)
    histogram = found.reshape(len(grey), _HISTOGRAM_BINS) / count
    return np.concatenate([mean, spread, mean * covered / pixels, quantiles, histogram], axis=1)


def _places(images: Grey) -> Features:
    """Mean heights in bands of rows and columns, and in blocks along both diagonals."""
    cells = (_BANDS, _BANDS)
    grid = np.stack([cv2.resize(image, cells, interpolation=cv2.INTER_AREA) for image in images])
    across = grid.mean(axis=2), grid.mean(axis=1)
    diagonals = (np.diagonal(one, axis1=1, axis2=2) for one in (grid, grid[:, ::-1]))
    return np.concatenate([*across, *diagonals], axis=1)
