"""Boxes from maps: the largest connected part of what is high enough."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.data.packing.geometry import Boxes
from pipeline.vision.anatomy.places import Axis

Map = npt.NDArray[np.float32]


def enlarged(found: Map, height: int, width: int, places: tuple[Axis, Axis] | None = None) -> Map:
    """Interpolate a map to as many places as its image has pixels; what speaks against is 0.

    Beyond the middles of the outermost places, their values stay.

    Args:
        found: h x w.
        height: of the image, px.
        width: likewise.
        places: where its places lie, see `places_of`; None where they share out the image evenly.
    """
    if places is None:
        jumps = height / found.shape[0], width / found.shape[1]
        places = (jumps[0] / 2, jumps[0]), (jumps[1] / 2, jumps[1])
    large = _along(_along(found, height, places[0]).T, width, places[1]).T
    heights: Map = np.maximum(large, np.float32(0.0))
    return heights


def _along(found: Map, length: int, axis: Axis) -> Map:
    """Interpolate the rows of a map to so many pixels."""
    start, jump = axis
    # A jump of 0: all places see the same, so that one of them stands for all.
    at = np.clip((np.arange(length) + 0.5 - start) / (jump or np.inf), 0, len(found) - 1)
    low = at.astype(np.intp)
    high = np.minimum(low + 1, len(found) - 1)
    share = (at - low).astype(np.float32)[:, None]
    rows: Map = found[low] * (1 - share) + found[high] * share
    return rows


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
