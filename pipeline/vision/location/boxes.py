"""Boxes from maps: the largest connected part of what is high enough."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.data.packing.geometry import Boxes

Map = npt.NDArray[np.float32]


def enlarged(found: Map, height: int, width: int) -> Map:
    """Interpolate a map to as many places as its image has pixels; what speaks against is 0.

    Args:
        found: h x w, over the whole image.
        height: of the image, px.
        width: likewise.
    """
    large = cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR)
    heights: Map = np.maximum(large, np.float32(0.0))
    return heights


def boxes_of(heights: Map, thresholds: Sequence[float]) -> Boxes:
    """Return the box around the largest connected part of a map above each threshold.

    The largest part rather than the highest, as Choe et al. 2020 take it (Evaluating weakly
    supervised object localization methods right). Places that touch at a corner are connected.

    Args:
        heights: height x width of the image, at least 0.
        thresholds: relative to the map's maximum, above 0 and at most 1.

    Returns:
        t x 4: left edge, upper edge, width, height, px; zeros where nothing is above 0.
    """
    highest = float(heights.max())
    boxes = np.zeros((len(thresholds), 4))
    if highest <= 0.0:
        return boxes
    for box, threshold in zip(boxes, thresholds, strict=True):
        above: npt.NDArray[Any] = (heights >= np.float32(threshold * highest)).astype(np.uint8)
        _, _, parts, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
        largest = 1 + int(parts[1:, cv2.CC_STAT_AREA].argmax())
        box[:] = parts[largest, :4]  # left, top, width, height
    return boxes


def peak(heights: Map) -> tuple[float, float]:
    """Return the middle of the map's highest pixel: x and y, px."""
    row, column = np.unravel_index(int(heights.argmax()), heights.shape)
    return float(column) + 0.5, float(row) + 0.5
