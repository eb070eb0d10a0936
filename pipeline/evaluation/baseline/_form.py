"""The form of a region: areas, lengths and moments, from OpenCV.

Lengths are shares of the image's own: a box of the whole image has sides and diagonals of 1, its
border is a perimeter of 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.uint8]
Grey = npt.NDArray[np.float32]

_ALIGNED = 32  # px, side of the rotated box when it is laid straight
_BANDS = 8
_LEAST_PART = 0.02  # of the region; smaller parts are noise

_MEASURES = (
    "covered area",
    "number of parts",
    "share of the largest part",
    "share of holes",
    "perimeter",
    "middle, x",
    "middle, y",
    "width of the upright box",
    "height of the upright box",
    "diagonal of the upright box",
    "length of the rotated box",
    "width of the rotated box",
    "diagonal of the rotated box",
    "width by length of the rotated box",
    "share of the rotated box that is covered",
    "outer contour by its convex hull",
    "compactness",
    *(f"Hu moment {i}" for i in range(1, 8)),
)


class Box(NamedTuple):
    """The smallest rotated box around the largest part.

    Attributes:
        centre: x and y in px.
        sides: length and width in px, the longer first.
        angle: of the longer side against the x axis, degrees.
    """

    centre: tuple[float, float]
    sides: tuple[float, float]
    angle: float


def form_names(region: str) -> list[str]:
    """Name the values of `form`."""
    return [f"{name}, {region}" for name in _MEASURES]


def form(mask: Mask) -> tuple[Grey, Box | None]:
    """Measure a region, and the largest of its connected parts.

    Area, parts, holes and perimeter are the whole region's, the others the largest part's. The
    perimeter joins the centres of border pixels, of outer and inner contours; sides of boxes
    count whole pixels. Compactness is 4 pi A / P^2 of the outer contour, 1 of a disc. Of Hu's
    moments (1962), the logarithms of their sizes are taken, with their signs.

    Args:
        mask: h x w, 1 in the region.

    Returns:
        As many values as `form_names`, all 0 without a region; and the rotated box.
    """
    height, width = mask.shape
    area = int(np.count_nonzero(mask))
    if not area:
        return np.zeros(len(_MEASURES), np.float32), None
    # A margin closes regions that the image's edge cuts.
    framed = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    _, numbers, found, centres = cv2.connectedComponentsWithStats(framed, connectivity=8)
    areas = found[1:, cv2.CC_STAT_AREA]
    largest = int(areas.argmax()) + 1
    left, top, across, down, own = found[largest].tolist()
    contours, _ = cv2.findContours(framed, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    perimeter = sum(cv2.arcLength(contour, closed=True) for contour in contours)
    part = (numbers[top : top + down, left : left + across] == largest).astype(np.uint8)
    outer = max(cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0], key=len)
    filled = cv2.drawContours(np.zeros_like(part), [outer], 0, 1, cv2.FILLED)
    box = _rotated(outer, (left - 1, top - 1))
    # Both on the centres of pixels, as the perimeter is.
    outline, inner = cv2.arcLength(outer, closed=True), cv2.contourArea(outer)
    hull = cv2.contourArea(cv2.convexHull(outer))
    hu = cv2.HuMoments(cv2.moments(part, binaryImage=True)).ravel()
    diagonal = np.hypot(height, width)
    # The centres of pixels are whole numbers, moved by the margin.
    x, y = centres[largest] - 0.5
    values = [
        area / mask.size,
        np.count_nonzero(areas >= _LEAST_PART * area),
        own / area,
        np.count_nonzero(filled) / own - 1,
        perimeter / (2 * (height + width)),
        x / width,
        y / height,
        across / width,
        down / height,
        np.hypot(across, down) / diagonal,
        *(side / diagonal for side in box.sides),
        np.hypot(*box.sides) / diagonal,
        box.sides[1] / box.sides[0],
        own / (box.sides[0] * box.sides[1]),
        inner / hull if hull else 1.0,
        4 * np.pi * inner / outline**2 if outline else 0.0,
        *(np.sign(hu) * np.log10(np.abs(hu) + 1e-12)),
    ]
    return np.array(values, np.float32), box


def _rotated(contour: npt.NDArray[np.int32], corner: tuple[int, int]) -> Box:
    (x, y), (first, second), angle = cv2.minAreaRect(contour)
    # From centres of border pixels to their outer edges.
    first, second = first + 1, second + 1
    if first < second:
        first, second, angle = second, first, angle + 90
    return Box((x + corner[0], y + corner[1]), (first, second), angle)


def profile_names() -> list[str]:
    """Name the values of `profiles`."""
    lines = ("along the rotated box", "across the rotated box")
    diagonals = ("first", "second")
    return [
        *(f"height {line}, {i + 1}/{_BANDS}" for line in lines for i in range(_BANDS)),
        *(
            f"height on the {line} diagonal of the rotated box, {i + 1}/{_BANDS}"
            for line in diagonals
            for i in range(_BANDS)
        ),
        *(f"covered length of the {line} diagonal of the rotated box" for line in diagonals),
    ]


def profiles(heights: Grey, masks: Sequence[Mask], boxes: Sequence[Box | None]) -> Grey:
    """Measure heights within regions' rotated boxes, laid straight.

    Mean heights of the covered pixels in 8 bands along a box's length and 8 along its width, and
    in 8 blocks of both its diagonals, in units of the mean height in the box, 0 where nothing is
    covered; and the covered lengths of its diagonals, as shares of the image's diagonal.

    Args:
        heights: n x h x w, in any unit.
        masks: n regions, h x w.
        boxes: n, from `form`; None without a region.

    Returns:
        n x as many values as `profile_names`.
    """
    side = (_ALIGNED, _ALIGNED)
    # The nearest pixel: a mean of a height and a missing one is neither.
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    within, laid = np.zeros((2, len(boxes), *side), np.float32)
    for i, box in enumerate(boxes):
        if box is not None:
            within[i] = cv2.warpAffine(masks[i], _to_image(box), side, flags=flags)
            laid[i] = cv2.warpAffine(heights[i], _to_image(box), side, flags=flags)
    sums, counts = (_along_lines(one) for one in (within * laid, within))
    means = sums / np.maximum(counts, 1)
    overall = laid.sum(axis=(1, 2)) / np.maximum(within.sum(axis=(1, 2)), 1)
    reach = np.array([np.hypot(*box.sides) if box else 0.0 for box in boxes])
    reach /= np.hypot(*heights.shape[1:])
    lengths = [
        reach * np.diagonal(one, axis1=1, axis2=2).mean(axis=1) for one in (within, within[:, ::-1])
    ]
    relative = means / np.maximum(overall, 1e-9)[:, None]
    return np.concatenate([relative, np.stack(lengths, axis=1)], axis=1).astype(np.float32)


def _to_image(box: Box) -> npt.NDArray[np.float64]:
    """Return the affine map from places in the straight box to places in the image, in px."""
    (length, width), turn = box.sides, np.radians(box.angle)
    along = np.array([np.cos(turn), np.sin(turn)]) * length / _ALIGNED
    across = np.array([-np.sin(turn), np.cos(turn)]) * width / _ALIGNED
    # The centres of pixels are whole numbers, in both.
    start = np.array(box.centre) - (along + across) * (_ALIGNED - 1) / 2
    return np.stack([along, across, start], axis=1)


def _along_lines(images: Grey) -> Grey:
    """Sum n x 32 x 32 over columns, rows, and blocks of both diagonals: n x 4 * 8."""
    block = _ALIGNED // _BANDS
    grid = images.reshape(-1, _BANDS, block, _BANDS, block).sum(axis=(2, 4))
    diagonals = (np.diagonal(one, axis1=1, axis2=2) for one in (grid, grid[:, ::-1]))
    return np.concatenate([grid.sum(axis=1), grid.sum(axis=2), *diagonals], axis=1)
