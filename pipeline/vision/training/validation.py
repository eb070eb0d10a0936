"""Validation during training: counts over all workers, divided once."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.vision.training.batches import map_ahead, own_rows
from pipeline.vision.training.sources import Source
from pipeline.vision.training.training_state import Record
from pipeline.vision.training.worker import Worker


@torch.inference_mode()
def validate(
    network: nn.Module,
    source: Source,
    *,
    classes: int,
    batch_size: int,
    worker: Worker,
) -> Record:
    """Measure `network` on every row of `source` exactly once, whatever the number of workers.

    Args:
        network: equal on all workers.
        source: of the inputs of `network`.
        classes: number of classes.
        batch_size: rows at a time.
        worker: this one; it measures its share of the rows.

    Returns:
        val_loss (cross-entropy, nats), val_accuracy, val_balanced_accuracy; val_macro_f1, the mean
        over the classes that have rows of 2 hits / (rows + predictions); val_predicted_classes,
        how many classes are predicted at all.
    """
    device, share = worker.device, worker.share
    network.eval()
    # Per class: rows, hits, predictions; then the sum of losses.
    counts = torch.zeros(3 * classes + 1, dtype=torch.float64, device=device)
    rows = own_rows(len(source.labels), share, batch_size)
    for at, raw in zip(rows, map_ahead(source.fetch, rows), strict=True):
        truth = torch.from_numpy(source.labels[at]).to(device, non_blocking=True)
        with worker.autocast():
            logits = network(source.prepare(raw.to(device, non_blocking=True), {}))
        counts += _count(logits.double(), truth, classes)
    if share.workers > 1:
        torch.distributed.all_reduce(counts)
    loss, counts = counts[-1].cpu(), counts[:-1].reshape(3, classes).cpu()
    support, correct, predicted = counts
    assert int(support.sum()) == len(source.labels), "a validation row was lost or counted twice"
    present = support > 0
    return {
        "val_loss": float(loss / support.sum()),
        "val_accuracy": float(correct.sum() / support.sum()),
        "val_balanced_accuracy": float((correct[present] / support[present]).mean()),
        "val_macro_f1": float((2 * correct / (support + predicted))[present].mean()),
        "val_predicted_classes": float((predicted > 0).sum()),
    }


def _count(logits: Tensor, truth: Tensor, classes: int) -> Tensor:
    predicted = logits.argmax(dim=1)
    hits = (predicted == truth).double()
    zeros = torch.zeros(classes, dtype=torch.float64, device=logits.device)
    loss = functional.cross_entropy(logits, truth, reduction="sum")
    return torch.cat(
        [
            zeros.scatter_add(0, truth, torch.ones_like(hits)),
            zeros.scatter_add(0, truth, hits),
            zeros.scatter_add(0, predicted, torch.ones_like(hits)),
            loss[None],
        ]
    )
