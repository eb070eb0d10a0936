"""What a frozen extractor makes of every image, computed once instead of in every epoch."""

import torch

from pipeline.params.choices.training import Training
from pipeline.vision.networks import Classifier
from pipeline.vision.training.batches import map_ahead, own_rows
from pipeline.vision.training.sources import Features, Source
from pipeline.vision.training.worker import Worker


def features_suffice(recipe: Training) -> bool:
    """Whether the same image gives the same features in every epoch of a training."""
    unchanged = not recipe.augment and recipe.mixup_alpha == 0 and recipe.cutmix_alpha == 0
    return recipe.trainable == "head" and unchanged


@torch.no_grad()
def extract_features(
    source: Source, network: Classifier, *, batch_size: int, worker: Worker
) -> Features:
    """Run every row through the extractor, each worker its share, and put the parts together.

    Args:
        source: of images; perhaps fewer than there are workers.
        network: whose extractor is frozen.
        batch_size: rows at a time.
        worker: this one; all features stay on its device.
    """
    device, share = worker.device, worker.share
    extractor, width = network.extractor, network.head.in_features
    extractor.eval()
    rows = own_rows(len(source.labels), share, batch_size)
    features = torch.zeros(len(source.labels), width, device=device)
    for at, raw in zip(rows, map_ahead(source.fetch, rows), strict=True):
        with worker.autocast():
            part = extractor(source.prepare(raw.to(device, non_blocking=True), {}))
        features[torch.from_numpy(at).to(device)] = part.float()
    if share.workers > 1:
        torch.distributed.all_reduce(features)
    return Features(features, source.labels)
