"""Places for names that must not overlap."""

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]

_DIRECTIONS = 16
_RINGS = 60


def place_labels(anchors: Points, sizes: Points, area: tuple[float, float]) -> Points:
    """Place a box per anchor, near it, inside the area, and over no other box where there is room.

    Each box in turn takes the place right above its anchor, or the nearest free one on rings
    around it, first away from the middle of the area, where there is more room. Where none is
    free, the one with the least in common with other boxes.

    Args:
        anchors: n x 2, what is named.
        sizes: n x 2, width and height of the boxes.
        area: width and height; its corner is at (0, 0).

    Returns:
        n x 2, the middles of the boxes.
    """
    placed = np.empty((0, 4))
    middles = np.empty_like(anchors)
    for row, (anchor, size) in enumerate(zip(anchors, sizes, strict=True)):
        places = _places(anchor, size, np.array(area))
        boxes = np.concatenate([places - size / 2, places + size / 2], axis=1)
        chosen = int(_overlap(boxes, placed).argmin())  # the first of equals: the nearest
        middles[row] = places[chosen]
        placed = np.vstack([placed, boxes[chosen]])
    return middles


def _places(anchor: Points, size: Points, area: Points) -> Points:
    """Return middles for a box of this size, the best first; all lie inside the area."""
    outwards = np.arctan2(*(anchor - area / 2)[::-1])
    turns = np.arange(_DIRECTIONS) * 2 * np.pi / _DIRECTIONS
    turns = turns[np.argsort(np.minimum(turns, 2 * np.pi - turns), kind="stable")]
    angles = outwards + turns
    rings = size[1] * (1 + 0.5 * np.arange(_RINGS))[:, None, None]
    ways = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # A box beside its anchor must stand off by half its width.
    away = rings * ways + ways * (size[0] / 2, 0)
    above = np.array([[0, 0.7 * size[1]]])
    middles = anchor + np.concatenate([above, away.reshape(-1, 2)])
    inside = ((middles >= size / 2) & (middles <= area - size / 2)).all(axis=1)
    return middles[inside] if inside.any() else anchor[None].clip(size / 2, area - size / 2)


def _overlap(boxes: Points, others: Points) -> Points:
    """Return the area that each box has in common with all others together."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common: Points = (high - low).clip(0).prod(axis=2).sum(axis=1)
    return common
