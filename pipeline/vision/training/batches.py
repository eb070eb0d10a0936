"""Which rows make up each global batch, and the pixels of this worker's share.

Everything random is drawn for the global batch from (seed, epoch, step): one worker and four
see the same batches and the same mixup partners, and a resumed run goes on as if it had not
stopped.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.data.shards import ImageSet
from pipeline.vision.predict import to_unit
from pipeline.vision.training.mixing import draw_partners, draw_weights, mix

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Share:
    """One worker's place among all of them."""

    rank: int = 0
    workers: int = 1


@dataclass(frozen=True)
class Batch:
    """One worker's share of a global batch.

    Attributes:
        images: n x channels x height x width in [0, 1].
        targets: n x classes, rows sum to 1.
        weights: n, what each row counts in the global mean: 1, or 0 for a stand-in.
        global_size: rows of the global batch.
    """

    images: Tensor
    targets: Tensor
    weights: Tensor
    global_size: int


def count_steps(rows: int, global_batch_size: int) -> int:
    """Return the steps of one epoch."""
    return -(-rows // global_batch_size)


def epoch_order(rows: int, global_batch_size: int, seed: int, epoch: int) -> list[Rows]:
    """Shuffle the rows into global batches that hold every row once.

    Sizes differ by one at most, where the rows do not divide: no row is dropped, and no batch
    is so small that batch normalisation has nothing to average.
    """
    order = np.random.default_rng((seed, epoch)).permutation(rows)
    return np.array_split(order, count_steps(rows, global_batch_size))


def training_batches(
    images: ImageSet,
    *,
    share: Share,
    global_batch_size: int,
    seed: int,
    epoch: int,
    mixup_alpha: float,
) -> Iterator[Batch]:
    """Yield this worker's share of each global batch of an epoch, gathered one batch ahead."""
    order = epoch_order(len(images), global_batch_size, seed, epoch)

    def gather(step: int) -> Batch:
        rng = np.random.default_rng((seed, epoch, step))
        return _share_of(images, order[step], share, mixup_alpha, rng)

    with ThreadPoolExecutor(1) as ahead:
        waiting = ahead.submit(gather, 0)
        for step in range(1, len(order)):
            batch, waiting = waiting.result(), ahead.submit(gather, step)
            yield batch
        yield waiting.result()


def _share_of(
    images: ImageSet, rows: Rows, share: Share, mixup_alpha: float, rng: np.random.Generator
) -> Batch:
    """Gather one worker's share of the global batch `rows`, mixed if asked for."""
    own = np.arange(share.rank, len(rows), share.workers)
    weights = np.ones(max(len(own), 1), np.float32)
    if not len(own):
        # More workers than rows: this one goes through the motions, for the others wait for it.
        own, weights = np.zeros(1, np.int64), np.zeros(1, np.float32)
    pixels, targets = _pixels_and_targets(images, rows[own])
    if mixup_alpha > 0:
        partners = draw_partners(images.labels[rows], rng)[own]
        lam = torch.from_numpy(draw_weights(len(rows), mixup_alpha, rng)[own])
        other_pixels, other_targets = _pixels_and_targets(images, rows[partners])
        pixels, targets = mix(pixels, other_pixels, lam), mix(targets, other_targets, lam)
    return Batch(pixels, targets, torch.from_numpy(weights), len(rows))


def _pixels_and_targets(images: ImageSet, rows: Rows) -> tuple[Tensor, Tensor]:
    labels = torch.from_numpy(images.labels[rows].astype(np.int64))
    targets = functional.one_hot(labels, len(images.info.classes)).float()
    return to_unit(images.gather(rows)), targets


def validation_batches(
    images: ImageSet, *, share: Share, size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield pixels and labels of this worker's rows: over all workers, every row exactly once."""
    own = np.arange(share.rank, len(images), share.workers)
    for start in range(0, len(own), size):
        rows = own[start : start + size]
        yield to_unit(images.gather(rows)), torch.from_numpy(images.labels[rows].astype(np.int64))
