"""What the network learned: its vectors against the pixels themselves, on the same images."""

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.latent.retrieval import Labels, average_precisions, mean_figure
from pipeline.evaluation.latent.search import Vectors, nearest, unit
from pipeline.evaluation.metrics.intervals import figure, paired_proportions, wilson

_LONGEST_SIDE = 32  # as in Torralba, Fergus and Freeman 2008, 80 Million Tiny Images


def pixel_vectors(images: npt.NDArray[Any]) -> Vectors:
    """Return the pixels of images as vectors whose cosine is the normalised cross-correlation.

    That is the usual measure of template matching: each image less its own mean, by its own length,
    so that brightness and contrast do not count. Images of more than 32 px a side are averaged over
    squares of as many pixels as it takes, after what is over is cut off right and below.

    Args:
        images: n x height x width x channels, of any type.

    Returns:
        n x d, of length 1 each; zeros for an image of one colour.
    """
    n, height, width, channels = images.shape
    side = -(-max(height, width) // _LONGEST_SIDE)
    # An image may be narrower than a square.
    down, across = min(side, height), min(side, width)
    rows, columns = height // down, width // across
    cut = images[:, : rows * down, : columns * across].astype(np.float32)
    small = cut.reshape(n, rows, down, columns, across, channels).mean(axis=(2, 4)).reshape(n, -1)
    small -= small.mean(axis=1, keepdims=True)
    # What rounding leaves of an image of one colour is no picture.
    small[np.abs(small).max(axis=1, initial=0) < 1e-3] = 0
    return unit(small)


def compare_with_pixels(
    base: tuple[Vectors, Vectors],
    base_labels: Labels,
    queries: tuple[Vectors, Vectors],
    query_labels: Labels,
) -> dict[str, Any]:
    """Judge both kinds of vectors by recall at 1 and mean average precision, in pairs.

    Args:
        base: m latent vectors and m pixel vectors, of length 1 each.
        base_labels: m class numbers.
        queries: n and n, likewise.
        query_labels: n class numbers, of which at least one is in the base.

    Returns:
        {"latent": {"recall_at_1": figure, "mean_average_precision": figure}, "pixels": likewise,
        "difference": likewise, latent less pixels with paired intervals}
    """
    block: dict[str, Any] = {}
    right, precisions = [], []
    for name, of_base, of_queries in zip(("latent", "pixels"), base, queries, strict=True):
        first = nearest(of_base, of_queries, 1, f"{name}: nearest").rows[:, 0]
        right.append(base_labels[first] == query_labels)
        found = average_precisions(of_base, base_labels, of_queries, query_labels)
        precisions.append(found[~np.isnan(found)])
        n = np.asarray(len(query_labels))
        block[name] = {
            "recall_at_1": figure(right[-1].mean(), wilson(right[-1].sum(), n)),
            "mean_average_precision": mean_figure(precisions[-1]),
        }
    only_latent = np.asarray((right[0] & ~right[1]).sum())
    only_pixels = np.asarray((right[1] & ~right[0]).sum())
    block["difference"] = {
        "recall_at_1": figure(
            float(only_latent - only_pixels) / len(query_labels),
            paired_proportions(only_latent, only_pixels, np.asarray(len(query_labels))),
        ),
        "mean_average_precision": mean_figure(precisions[0] - precisions[1], -1.0),
    }
    return block
