"""Metrics of weakly supervised localisation, each with a 95 % interval.

MaxBoxAcc (Choe et al. 2020, Evaluating weakly supervised object localization methods right): the
share of images whose box, from the map of their true class, overlaps the given one by an IoU of at
least 0.5, at the threshold where that share is highest. The threshold is chosen on validation
images, and applied to test images; their own maximum is reported as such.

Pointing accuracy (Zhang et al. 2018, Top-down neural attention by excitation backprop, without
their tolerance of 15 px): the share of images whose map is highest inside the given box.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.metrics.intervals import figure, wilson

MIN_IOU = 0.5
# Of a map's maximum. Finer steps change no box of a map with few places.
THRESHOLDS: tuple[float, ...] = tuple(round(0.01 * step, 2) for step in range(1, 100))

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Located:
    """Images with a given box, and what the maps of their true classes say: n images.

    Attributes:
        given: n x 4; left edge, upper edge, width, height.
        found: n x thresholds x 4, likewise.
        peaks: n x 2; x and y of the map's highest place.
        right: n; whether the image's class is predicted.
    """

    given: Floats
    found: Floats
    peaks: Floats
    right: npt.NDArray[np.bool_]

    @property
    def overlaps(self) -> Floats:
        """IoU of found and given boxes: n x thresholds."""
        return iou(self.found, self.given[:, None])


def iou(first: Floats, second: Floats) -> Floats:
    """Return intersection over union of boxes, ... x 4 each; 0 where both are empty."""
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    intersection = np.maximum(high - low, 0.0).prod(axis=-1)
    union = first[..., 2:].prod(axis=-1) + second[..., 2:].prod(axis=-1) - intersection
    shares: Floats = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return shares


def choose_threshold(located: Located) -> int:
    """Return the index of the threshold with the most hits; the middle one of equally good ones.

    Args:
        located: at least one image.
    """
    hits = (located.overlaps >= MIN_IOU).sum(axis=0)
    best = np.flatnonzero(hits == hits.max())
    return int(best[len(best) // 2])


def measure(located: Located, chosen: int) -> dict[str, Any]:
    """Measure test images at a threshold that was chosen on others.

    Args:
        located: at least one image.
        chosen: index of the threshold.

    Returns:
        box_accuracy: share of images with a hit at that threshold.
        box_and_class_accuracy: share of images with a hit whose class is predicted, too.
        max_box_accuracy: the highest share at any threshold, chosen on the very images.
        pointing_accuracy: share of images whose map is highest inside the box.
        All with Wilson's intervals.
    """
    hits = located.overlaps >= MIN_IOU
    left, top, width, height = located.given.T
    x, y = located.peaks.T
    inside = (left <= x) & (x < left + width) & (top <= y) & (y < top + height)
    n = len(hits)
    return {
        "box_accuracy": _share(hits[:, chosen].sum(), n),
        "box_and_class_accuracy": _share((hits[:, chosen] & located.right).sum(), n),
        "max_box_accuracy": _share(hits.sum(axis=0).max(), n),
        "pointing_accuracy": _share(inside.sum(), n),
    }


def _share(hits: int, images: int) -> dict[str, Any]:
    return figure(hits / images, wilson(np.asarray(hits), np.asarray(images)))
