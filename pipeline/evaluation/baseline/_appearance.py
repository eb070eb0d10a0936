"""Edges, fine texture and colours of images with 8 bits, from scikit-image and OpenCV."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from skimage.feature import graycomatrix, graycoprops, hog, local_binary_pattern

Levels = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]

_SIDE, _CELLS, _ORIENTATIONS = (
    32,
    4,
    8,
)  # of histograms of gradients: px, a side, within 180 degrees
_GREY_BITS = 3  # 8 levels of co-occurrence
_ANGLES = (0, 45, 90, 135)  # degrees
_STATISTICS = ("contrast", "homogeneity", "energy", "correlation")
_HUES, _SATURATIONS = 8, 4


def edge_names() -> list[str]:
    """Name the columns of `edges`."""
    width, cells = 180 / _ORIENTATIONS, range(1, _CELLS + 1)
    return [
        f"edges at {angle * width:g} deg in cell {row},{column}"
        for row in cells
        for column in cells
        for angle in range(_ORIENTATIONS)
    ]


def edges(images: Sequence[Levels]) -> Features:
    """Return histograms of oriented gradients (Dalal and Triggs 2005): n x 128.

    In 4 x 4 cells of the image at 32 x 32 px, 8 orientations each, normalised over the image.
    """
    return np.stack(
        [
            hog(
                cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA),
                orientations=_ORIENTATIONS,
                pixels_per_cell=(_SIDE // _CELLS,) * 2,
                cells_per_block=(_CELLS, _CELLS),
            )
            for image in images
        ]
    ).astype(np.float32)


def texture_names() -> list[str]:
    """Name the columns of `texture`."""
    return [
        *(f"local pattern, {i} of 8 neighbours higher" for i in range(9)),
        "local pattern, not uniform",
        *(f"{name} at {angle} deg" for name in _STATISTICS for angle in _ANGLES),
    ]


def texture(images: Sequence[Levels]) -> Features:
    """Return local binary patterns and statistics of co-occurrence: n x 26.

    Shares of the ten rotation-invariant uniform patterns of 8 neighbours at distance 1 (Ojala,
    Pietikainen and Maenpaa 2002); and, of neighbours at distance 1 in four directions and 8 grey
    levels, contrast, homogeneity, energy and correlation (Haralick, Shanmugam and Dinstein 1973).
    """
    patterns = np.stack([_patterns(image) for image in images])
    # The statistics of all images in one call: for each alone they take longer than its matrix.
    matrices = np.concatenate(
        [
            graycomatrix(image >> (8 - _GREY_BITS), [1], np.radians(_ANGLES), levels=2**_GREY_BITS)
            for image in images
        ],
        axis=2,
    )
    statistics = [graycoprops(matrices, name) for name in _STATISTICS]
    return np.concatenate([patterns, *statistics], axis=1).astype(np.float32)


def _patterns(image: Levels) -> npt.NDArray[np.float64]:
    codes = local_binary_pattern(image, 8, 1, method="uniform").astype(np.intp)
    shares: npt.NDArray[np.float64] = np.bincount(codes.ravel(), minlength=10) / codes.size
    return shares


def colour_names() -> list[str]:
    """Name the columns of `colours`."""
    return [
        *(f"mean of {name}" for name in ("red", "green", "blue")),
        *(f"spread of {name}" for name in ("red", "green", "blue")),
        *(
            f"hue {i + 1}/{_HUES}, saturation {j + 1}/{_SATURATIONS}"
            for i in range(_HUES)
            for j in range(_SATURATIONS)
        ),
    ]


def colours(images: Sequence[Levels]) -> Features:
    """Return means and spreads of red, green and blue, and a histogram of hue by saturation."""
    return np.stack([_colours(image) for image in images])


def _colours(image: Levels) -> Features:
    means, spreads = cv2.meanStdDev(image)
    counts = cv2.calcHist(
        [cv2.cvtColor(image, cv2.COLOR_RGB2HSV)], [0, 1], None, [_HUES, _SATURATIONS],
        [0, 180, 0, 256],
    )  # fmt: skip
    shares = counts.ravel() / (image.shape[0] * image.shape[1])
    return np.concatenate([means.ravel() / 255, spreads.ravel() / 255, shares]).astype(np.float32)
