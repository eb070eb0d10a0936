"""What a frozen extractor makes of every image, computed once instead of in every epoch."""

import numpy as np
import torch
from torch import nn

from pipeline.vision.training.batches import map_ahead, own_rows
from pipeline.vision.training.sources import Features, Rows, Source
from pipeline.vision.training.worker import Worker


@torch.no_grad()
def extract_features(
    source: Source,
    extractor: nn.Module,
    width: int,
    *,
    batch_size: int,
    worker: Worker,
    chosen: Rows | None = None,
) -> Features:
    """Run rows through the extractor, each worker its share, and put the parts together.

    Args:
        source: of images; perhaps fewer than there are workers.
        extractor: in evaluation mode from now on.
        width: of its features.
        batch_size: rows at a time.
        worker: this one; all features stay on its device.
        chosen: rows of `source`, all of them by default.
    """
    chosen = np.arange(len(source.labels)) if chosen is None else chosen
    device, share = worker.device, worker.share
    extractor.eval()
    rows = own_rows(len(chosen), share, batch_size)
    features = torch.zeros(len(chosen), width, device=device)
    fetched = map_ahead(source.fetch, (chosen[at] for at in rows))
    for at, raw in zip(rows, fetched, strict=True):
        with worker.autocast():
            part = extractor(source.prepare(raw.to(device, non_blocking=True), {}))
        features[torch.from_numpy(at).to(device)] = part.float()
    if share.workers > 1:
        torch.distributed.all_reduce(features)
    return Features(features, source.labels[chosen])
