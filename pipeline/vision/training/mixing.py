"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) between pairs of images.

Pure: the caller draws partners, and mixing weights or boxes, from a generator that it was handed,
so that a test recomputes the result by hand and every worker computes its share of one global
batch.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def draw_any(labels: npt.NDArray[np.integer], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw a permutation of a batch, as the papers do: the classes keep their shares.

    Returns:
        Positions in the batch; a row may be its own partner.
    """
    return rng.permutation(len(labels))


def draw_other_classes(
    labels: npt.NDArray[np.integer], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw for each row of a batch another row of a different class, each as likely.

    Returns:
        Positions in the batch; where there is only one class, each row's own.
    """
    count = len(labels)
    by_class = np.argsort(labels, kind="stable")
    first = np.searchsorted(labels[by_class], labels, side="left")
    size = np.searchsorted(labels[by_class], labels, side="right") - first
    if (size == count).all():
        return np.arange(count)
    # Rows in the order of their class; the own class is a gap that the draw steps over.
    drawn = rng.integers(0, count - size)
    partners: npt.NDArray[np.int64] = by_class[drawn + np.where(drawn >= first, size, 0)]
    return partners


PARTNERS = {"any": draw_any, "other_classes": draw_other_classes}


def draw_weights(count: int, alpha: float, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Draw the weight of each row's own image, lambda ~ Beta(alpha, alpha), in [0, 1]."""
    return rng.beta(alpha, alpha, count).astype(np.float32)


def mix(values: Tensor, partners: Tensor, weights: Tensor) -> Tensor:
    """Return weights * values + (1 - weights) * partners.

    Args:
        values: n x ..., images or one-hot targets.
        partners: the same shape, row by row the partner of `values`.
        weights: n, in [0, 1].
    """
    weights = weights.reshape(-1, *[1] * (values.ndim - 1))
    return weights * values + (1 - weights) * partners


def draw_boxes(
    count: int, alpha: float, shape: tuple[int, int], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw for each row the box that its partner is pasted into.

    A box has the shape of the image and the share 1 - lambda of its area, lambda ~ Beta(alpha,
    alpha), around a pixel that is drawn evenly; what lies beyond the border is cut off.

    Args:
        count: rows.
        alpha: of the Beta distribution, above 0.
        shape: height and width of the images in pixels.
        rng: draws areas and places.

    Returns:
        count x 4: top, left, bottom, right in pixels, the last two exclusive. May be empty.
    """
    sides = np.array(shape)
    side_share = np.sqrt(1 - rng.beta(alpha, alpha, count))
    box_sides = np.rint(side_share[:, None] * sides).astype(np.int64)
    first = rng.integers(0, sides, (count, 2)) - box_sides // 2
    corners = np.concatenate([first, first + box_sides], axis=1)
    boxes: npt.NDArray[np.int64] = corners.clip(0, np.tile(sides, 2))
    return boxes


def paste(values: Tensor, partners: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Paste the pixels of `partners` inside the boxes into `values`.

    Args:
        values: n x channels x height x width, floats.
        partners: the same shape, row by row the partner of `values`.
        boxes: n x 4, as `draw_boxes` returns them, on the same device.

    Returns:
        The pasted images, and the share of each that is its own pixels (n, in [0, 1]): the
        weight of its own target.
    """
    height, width = values.shape[2:]
    top, left, bottom, right = boxes.unsqueeze(2).unbind(dim=1)
    y = torch.arange(height, device=values.device)
    x = torch.arange(width, device=values.device)
    rows = ((y >= top) & (y < bottom)).to(values.dtype)
    columns = ((x >= left) & (x < right)).to(values.dtype)
    # At weights 0 and 1 lerp returns the one or the other to the bit, faster than where.
    pasted = torch.lerp(values, partners, rows[:, None, :, None] * columns[:, None, None, :])
    return pasted, 1 - rows.sum(dim=1) * columns.sum(dim=1) / (height * width)
