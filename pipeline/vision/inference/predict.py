"""From images to posteriors and latent vectors."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.evaluation.metrics.posteriors import mean_posteriors, temper
from pipeline.vision.bundle.inputs import Batch
from pipeline.vision.inference.bundle import Bundle
from pipeline.vision.inference.views import View

BATCH_SIZE = 256
# So many images and fewer do not fill the machine: several views of them go through together.
_SMALL_BATCH = 32

Pixels = npt.NDArray[Any]
Posteriors = npt.NDArray[np.float64]


@torch.inference_mode()
def probabilities(bundle: Bundle, batches: Iterable[Pixels]) -> Posteriors:
    """Return the posterior of each image as the bundle answers: by its views and temperature.

    Args:
        bundle: the model.
        batches: arrays of n x height x width x channels, uint8 or uint16, already prepared.

    Returns:
        n x classes, rows sum to 1.

    Raises:
        PipelineError: see `build_views`.
    """
    mean = bundle.description.views.mean if bundle.description.views else "arithmetic"
    temperature = bundle.description.temperature
    found = [
        mean_posteriors(_seen(bundle, Batch(images, bundle.normalize), bundle.views), mean)
        for images in batches
    ]
    posteriors = _joined(found, bundle)
    return posteriors if temperature == 1.0 else temper(posteriors, temperature)


@torch.inference_mode()
def view_posteriors(bundle: Bundle, batches: Iterable[Pixels], view: View) -> Posteriors:
    """Return what the network itself says of the images in one view.

    Neither the bundle's own views nor its temperature are used.

    Args:
        bundle: the model.
        batches: arrays of n x height x width x channels, uint8 or uint16, already prepared.
        view: see `build_views`.

    Returns:
        n x classes, rows sum to 1.
    """
    found: list[Posteriors] = []
    for images in batches:
        found += _seen(bundle, Batch(images, bundle.normalize), [view])
    return _joined(found, bundle)


@torch.inference_mode()
def embeddings(bundle: Bundle, batches: Iterable[Pixels]) -> npt.NDArray[np.float32]:
    """Return each image's features below the head: n x d."""
    features = [bundle.network.extractor(bundle.normalize(images)).cpu() for images in batches]
    if not features:
        return np.empty((0, bundle.network.head.in_features), np.float32)
    return torch.cat(features).float().numpy()


def _seen(bundle: Bundle, batch: Batch, views: Sequence[View]) -> list[Posteriors]:
    """Return the network's posteriors of one batch in each view, n x classes each."""
    n = len(batch.images)
    together = max(_SMALL_BATCH // max(n, 1), 1)
    posteriors: list[Posteriors] = []
    for start in range(0, len(views), together):
        inputs = [view(batch) for view in views[start : start + together]]
        logits = bundle.network(inputs[0] if len(inputs) == 1 else torch.cat(inputs))
        posteriors.extend(logits.cpu().double().softmax(dim=1).numpy().reshape(len(inputs), n, -1))
    return posteriors


def _joined(posteriors: Sequence[Posteriors], bundle: Bundle) -> Posteriors:
    return np.concatenate(posteriors) if posteriors else np.empty((0, len(bundle.classes)))
