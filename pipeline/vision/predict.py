"""From images to posteriors and latent vectors."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.vision.bundle import Bundle

BATCH_SIZE = 256

View = Callable[[Tensor], Tensor]


def to_unit(images: npt.NDArray[Any]) -> Tensor:
    """Turn n x height x width x channels integers to n x channels x height x width in [0, 1]."""
    full_scale = float(np.iinfo(images.dtype).max)
    # torch lacks most uint16 arithmetic; int32 holds every value.
    whole = images.astype(np.int32) if images.dtype == np.uint16 else images
    return torch.from_numpy(whole).permute(0, 3, 1, 2).float().div_(full_scale)


def per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Shape one value per channel to broadcast over n x channels x height x width."""
    return torch.tensor(values, device=device).reshape(1, -1, 1, 1)


@torch.inference_mode()
def _run(
    bundle: Bundle,
    batches: Iterable[npt.NDArray[Any]],
    forward: Callable[[Tensor], Tensor],
    view: View | None,
) -> Iterable[Tensor]:
    device = next(bundle.network.parameters()).device
    mean, std = per_channel(bundle.mean, device), per_channel(bundle.std, device)
    for images in batches:
        pixels = to_unit(images).to(device)
        if view is not None:
            pixels = view(pixels)
        yield forward((pixels - mean) / std).cpu()


def probabilities(
    bundle: Bundle, batches: Iterable[npt.NDArray[Any]], view: View | None = None
) -> npt.NDArray[np.float64]:
    """Return the posterior of each image: n x classes, rows sum to 1.

    Args:
        bundle: the model.
        batches: arrays of n x height x width x channels, uint8 or uint16, already prepared.
        view: applied to each batch (n x channels x height x width in [0, 1]) before the network.
    """
    logits = [t.double() for t in _run(bundle, batches, bundle.network, view)]
    if not logits:
        return np.empty((0, len(bundle.classes)))
    return torch.cat(logits).softmax(dim=1).numpy()


def embeddings(bundle: Bundle, batches: Iterable[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
    """Return each image's features below the head: n x d."""
    features = list(_run(bundle, batches, bundle.network.extractor, None))
    if not features:
        return np.empty((0, bundle.network.head.in_features), np.float32)
    return torch.cat(features).float().numpy()
