"""What a frozen extractor makes of every image, computed once instead of in every epoch."""

import torch
from torch import nn

from pipeline.params import Training
from pipeline.vision.training.batches import Share, map_ahead, own_rows
from pipeline.vision.training.compute_config import ComputeConfig
from pipeline.vision.training.sources import Features, Source


def features_suffice(recipe: Training) -> bool:
    """Whether the same image gives the same features in every epoch of a training."""
    unchanged = not recipe.augment and recipe.mixup_alpha == 0 and recipe.cutmix_alpha == 0
    return recipe.trainable == "head" and unchanged


@torch.no_grad()
def extract_features(
    extractor: nn.Module,
    source: Source,
    *,
    width: int,
    share: Share,
    batch_size: int,
    device: torch.device,
    compute: ComputeConfig,
) -> Features:
    """Run every row through `extractor`, each worker its share, and put the parts together.

    Args:
        extractor: n x channels x height x width to n x width.
        source: of fewer rows than there are workers, perhaps.
        width: features of an image.
        share: this worker's.
        batch_size: rows at a time.
        device: where the features stay.
        compute: how to compute.
    """
    extractor.eval()
    rows = own_rows(len(source.labels), share, batch_size)
    features = torch.zeros(len(source.labels), width, device=device)
    for at, raw in zip(rows, map_ahead(source.fetch, rows), strict=True):
        with compute.autocast(device):
            part = extractor(source.prepare(raw.to(device, non_blocking=True), {}))
        features[torch.from_numpy(at).to(device)] = part.float()
    if share.workers > 1:
        torch.distributed.all_reduce(features)
    return Features(features, source.labels)
