"""Synthetic height maps of mail on a conveyor belt, as a depth camera above it delivers them.

A map has 64 x 64 px of 12 mm, 16 bits, heights above the belt in millimetres; 0 is the belt, or a
pixel without a measurement. The classes are an envelope, a parcel, and a double: two parcels that
lie side by side or on one another, which a sorting machine has to part.

The prior of sizes is our own, near what carriers accept; it was not measured on any mail:

- envelope: C6, DL, C5, C4 or B4 (ISO 269) with shares of 0.2, 0.3, 0.2, 0.2 and 0.1, each side up
  to 3 % longer or shorter; thickness log-normal with median 8 mm and sigma 0.5, 3 to 30 mm; it is
  thickest in the middle and falls to 60 % at its edges;
- parcel: length log-normal with median 300 mm and sigma 0.3, 150 to 600 mm; width uniform between
  45 and 95 % of the length; height log-normal with median 110 mm and sigma 0.5, 20 to 400 mm, and
  at most the width;
- double: two parcels by that prior. Half of them lie side by side, at one angle or turned by up to
  15 degrees, at most 30 mm apart; in the other half the middle of the second lies over the first.

Angle and place are uniform, the whole mail piece in view. A lid is tilted by up to 2 % of its size.
"""

import cv2
import numpy as np
import numpy.typing as npt

CLASSES = ("envelope", "parcel", "double")
SIDE, MM_PER_PX = 64, 12.0

PARCELS_SOURCE = f"""\
# Source of these images

Synthetic: drawn by Convoy, and free of the rights of others. Height maps of mail on a conveyor
belt, {SIDE} x {SIDE} px of {MM_PER_PX:g} mm, 16 bits, in millimetres above the belt. 0 is the belt,
or a pixel that was not measured. Classes: {", ".join(CLASSES)}.
"""

_FORMATS = np.array([(162, 114), (220, 110), (229, 162), (324, 229), (353, 250)], float)  # mm
_SHARES = (0.2, 0.3, 0.2, 0.2, 0.1)
_CAMERA_MM = 1800.0  # above the belt
# Depth noise grows with the square of the distance (Khoshelham and Elberink 2012). This factor is
# that of a good camera: 1 mm at the belt.
_NOISE_PER_MM2 = 1.0 / _CAMERA_MM**2
_FLOOR_MM = 3.0  # what is lower is taken for the belt
# Beside a lid the projector's light does not reach: so many mm for each mm of height.
_SHADOW = 0.12
_LOST, _FLYING = 0.01, 0.25  # shares of pixels: anywhere, and at edges
_PATCHES = 0.6  # dark or shiny patches of a piece that return no light, on average

Map = npt.NDArray[np.float64]
Box = tuple[float, float, float]  # length, width and height in mm
Place = tuple[float, float, float]  # x and y of the middle in mm, radians


def draw_parcel(label: int, rng: np.random.Generator) -> npt.NDArray[np.uint16]:
    """Draw one map: SIDE x SIDE, mm.

    Args:
        label: number of the class in CLASSES.
        rng: of this map alone.
    """
    while True:
        heights = np.zeros((SIDE, SIDE))
        pieces = _DRAWN[label](rng)
        for (box, place), on_top in pieces:
            _lay(heights, box, place, rng, bulge=0.4 if label == 0 else 0.0, on_top=on_top)
        rim = np.concatenate([heights[[0, -1]].ravel(), heights[:, [0, -1]].ravel()])
        if not rim.any() and heights.any():
            return _seen(heights, rng)


def _envelope(rng: np.random.Generator) -> list[tuple[tuple[Box, Place], bool]]:
    sides = _FORMATS[rng.choice(len(_FORMATS), p=_SHARES)] * rng.uniform(0.97, 1.03, 2)
    thickness = np.clip(rng.lognormal(np.log(8), 0.5), 3, 30)
    return [(((*sides, thickness), _anywhere(rng)), False)]


def _parcel(rng: np.random.Generator) -> list[tuple[tuple[Box, Place], bool]]:
    return [((_box(rng), _anywhere(rng)), False)]


def _double(rng: np.random.Generator) -> list[tuple[tuple[Box, Place], bool]]:
    first, second = _box(rng), _box(rng)
    x, y, angle = _anywhere(rng)
    turned = angle + rng.uniform(-1, 1) * np.radians(15) * rng.integers(0, 2)
    if rng.random() < 0.5:
        # Beside the long side of the first, or beyond its short one.
        along = rng.integers(0, 2)
        away = (first[1 - along] + second[1 - along]) / 2 + rng.uniform(0, 30)
        slid = rng.uniform(-0.3, 0.3) * first[along]
        dx, dy = (slid, away) if along == 0 else (away, slid)
        on_top = False
    else:
        dx, dy = (rng.uniform(-0.5, 0.5) * side for side in first[:2])
        turned, on_top = rng.uniform(0, np.pi), True
    # The two together lie around the place.
    shift = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ (dx, dy)
    places = [(x - shift[0] / 2, y - shift[1] / 2, angle), (x + shift[0] / 2, y + shift[1] / 2)]
    return [((first, places[0]), False), ((second, (*places[1], turned)), on_top)]


_DRAWN = (_envelope, _parcel, _double)


def _box(rng: np.random.Generator) -> Box:
    length = np.clip(rng.lognormal(np.log(300), 0.3), 150, 600)
    width = length * rng.uniform(0.45, 0.95)
    return length, width, min(np.clip(rng.lognormal(np.log(110), 0.5), 20, 400), width)


def _anywhere(rng: np.random.Generator) -> Place:
    x, y = rng.uniform(0.25, 0.75, 2) * SIDE * MM_PER_PX
    return x, y, rng.uniform(0, np.pi)


def _lay(
    heights: Map, box: Box, place: Place, rng: np.random.Generator, *, bulge: float, on_top: bool
) -> None:
    """Put a box into the map, on the belt or on what lies there."""
    x, y, angle = place
    centres = (np.arange(SIDE) + 0.5) * MM_PER_PX
    east, south = centres[None, :] - x, centres[:, None] - y
    u = (east * np.cos(angle) + south * np.sin(angle)) / (box[0] / 2)
    v = (south * np.cos(angle) - east * np.sin(angle)) / (box[1] / 2)
    inside = (np.abs(u) <= 1) & (np.abs(v) <= 1)
    tilt = rng.uniform(-0.02, 0.02, 2) * box[2]
    lid = box[2] * (1 - bulge * np.maximum(u**2, v**2)) + tilt[0] * u + tilt[1] * v
    ground = heights[inside].max(initial=0.0) if on_top else 0.0
    heights[inside] = np.maximum(heights, ground + lid)[inside]


def _seen(heights: Map, rng: np.random.Generator) -> npt.NDArray[np.uint16]:
    """Return what a depth camera makes of a map: noise, mixed edges, missing pixels; whole mm."""
    shadow = np.zeros_like(heights, bool)
    for step in range(1, 5):  # the projector stands to the left
        shadow[:, step:] |= heights[:, :-step] - heights[:, step:] > step * MM_PER_PX / _SHADOW
    near = cv2.dilate(heights, np.ones((3, 3))) - cv2.erode(heights, np.ones((3, 3)))
    edge = near > 20
    flying = edge & (rng.random(heights.shape) < _FLYING)
    mixed = cv2.blur(heights, (3, 3))
    seen = np.where(flying, mixed, heights)
    seen = seen + rng.normal(0, 1, seen.shape) * _NOISE_PER_MM2 * (_CAMERA_MM - seen) ** 2
    missing = shadow | (rng.random(seen.shape) < _LOST)
    patches = np.zeros(seen.shape, np.uint8)
    rows, columns = np.nonzero(heights)
    for _ in range(rng.poisson(_PATCHES)):
        at = rng.integers(len(rows))
        axes = rng.integers(1, 4, 2).tolist()
        centre = (int(columns[at]), int(rows[at]))
        cv2.ellipse(patches, centre, axes, rng.uniform(0, 180), 0, 360, 1, -1)
    missing |= patches > 0
    seen[missing | (seen < _FLOOR_MM)] = 0
    return np.rint(seen).astype(np.uint16)
