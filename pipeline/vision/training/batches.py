"""What each global batch is made of, and this worker's share of it.

Everything random is drawn for the global batch from (seed, epoch, step): one worker and four
see the same batches, augmentations and mixing partners, and a resumed run goes on as if it had
not stopped.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.params.choices.training import Training
from pipeline.vision.training.augment import Augment
from pipeline.vision.training.mixing import (
    PARTNERS,
    draw_boxes,
    draw_weights,
    mix,
    paste,
)
from pipeline.vision.training.sampling import (
    SamplerName,
    count_steps,
    epoch_rows,
    global_batches,
)
from pipeline.vision.training.sources import Rows, Source

_AHEAD = 2

A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """One worker's place among all of them."""

    rank: int = 0
    workers: int = 1


@dataclass(frozen=True)
class Mixing:
    """With whom each of this worker's rows is mixed, and how.

    Attributes:
        own: positions of this worker's rows among those fetched.
        partners: positions of their partners there.
        how: n weights of the own image for mixup, or n x 4 boxes for cutmix.
        cut: whether it is cutmix.
    """

    own: Tensor
    partners: Tensor
    how: Tensor
    cut: bool


@dataclass(frozen=True)
class BatchPlan:
    """One worker's share of a global batch, before it is prepared.

    Attributes:
        epoch, step: that the batch is for, both from 0.
        raw: what the source fetched.
        labels: of the rows fetched.
        augment: draws of the augmentation for the rows fetched.
        mixing: None without.
        global_size: images of the global batch.
        views: of each image; the rows of the first view come first, then those of the next.
    """

    epoch: int
    step: int
    raw: Tensor
    labels: Tensor
    augment: Mapping[str, Tensor]
    mixing: Mixing | None
    global_size: int
    views: int = 1


class Batches:
    """The global batches of a training, epoch by epoch."""

    def __init__(
        self, source: Source, recipe: Training, augment: Augment | None, shape: tuple[int, int]
    ) -> None:
        """Draw from `source`; `shape` is the height and width that cutmix cuts from."""
        self._source, self._recipe, self._augment, self._shape = source, recipe, augment, shape

    @property
    def images_per_epoch(self) -> int:
        """Rows of one epoch."""
        return len(self._source.labels)

    @property
    def steps_per_epoch(self) -> int:
        """Global batches of one epoch."""
        return count_steps(self.images_per_epoch, self._recipe.global_batch_size)

    def stream(self, share: Share, epoch: int, first_step: int) -> Iterator[BatchPlan]:
        """Yield this worker's share of each batch from `first_step` on, fetched ahead."""
        recipe = self._recipe
        rng = np.random.default_rng((recipe.seed, epoch))
        rows = epoch_rows(self._source.labels, sampler_at(recipe, epoch), rng)
        batches = global_batches(rows, recipe.global_batch_size)

        def draw(step: int) -> BatchPlan:
            return self._draw(batches[step], share, epoch, step)

        return map_ahead(draw, range(first_step, len(batches)))

    def _draw(self, rows: Rows, share: Share, epoch: int, step: int) -> BatchPlan:
        # From 1: numpy fills up seeds with zeros, and (seed, epoch) has drawn the epoch's rows.
        rng = np.random.default_rng((self._recipe.seed, epoch, 1 + step))
        images, views = len(rows), self._recipe.views
        drawn = self._augment.draw(views * images, rng) if self._augment else {}
        own = np.arange(share.rank, images, share.workers)
        needed, mixing = (own + images * np.arange(views)[:, None]).ravel(), None
        if self._recipe.mixup_alpha > 0 or self._recipe.cutmix_alpha > 0:
            needed, mixing = self._draw_mixing(rows, own, rng)
        return BatchPlan(
            epoch=epoch,
            step=step,
            raw=self._source.fetch(rows[needed % images]),
            labels=torch.from_numpy(self._source.labels[rows[needed % images]]),
            augment={key: torch.from_numpy(values[needed]) for key, values in drawn.items()},
            mixing=mixing,
            global_size=images,
            views=views,
        )

    def _draw_mixing(self, rows: Rows, own: Rows, rng: np.random.Generator) -> tuple[Rows, Mixing]:
        """Draw for the whole batch; return the positions needed here and what to do with them."""
        mixup, cutmix = self._recipe.mixup_alpha, self._recipe.cutmix_alpha
        partners = PARTNERS[self._recipe.mix_partners](self._source.labels[rows], rng)[own]
        cut = cutmix > 0 and (mixup == 0 or rng.random() < 0.5)
        if cut:
            how = torch.from_numpy(draw_boxes(len(rows), cutmix, self._shape, rng)[own])
        else:
            how = torch.from_numpy(draw_weights(len(rows), mixup, rng)[own])
        # A partner may belong to another worker's share; its image is fetched here too.
        needed = np.union1d(own, partners)
        at_own, at_partners = (
            torch.from_numpy(np.searchsorted(needed, at)) for at in (own, partners)
        )
        return needed, Mixing(at_own, at_partners, how, cut)


def compose(
    plan: BatchPlan, source: Source, target_rows: Tensor, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Turn a plan into inputs and soft targets on the device, without waiting for it.

    Args:
        plan: of a worker's share of a batch.
        source: that it was fetched from.
        target_rows: classes x classes, the target of each class; rows sum to 1.
        device: that computes.
    """

    def here(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    augment = {key: here(values) for key, values in plan.augment.items()}
    inputs = source.prepare(here(plan.raw), augment)
    targets = target_rows.index_select(0, here(plan.labels))
    if plan.mixing is None:
        return inputs, targets
    own, partners = here(plan.mixing.own), here(plan.mixing.partners)
    images = inputs.index_select(0, own), inputs.index_select(0, partners)
    labels = targets.index_select(0, own), targets.index_select(0, partners)
    how = here(plan.mixing.how)
    if not plan.mixing.cut:
        return mix(*images, how), mix(*labels, how)
    pasted, weights = paste(*images, how)
    return pasted, mix(*labels, weights)


def sampler_at(recipe: Training, epoch: int) -> SamplerName:
    """Return the name of the sampler that an epoch (from 0) uses."""
    return recipe.sampler.name if epoch >= starts_at(recipe.sampler, recipe) else "natural"


def starts_at(deferred: object, recipe: Training) -> int:
    """Return the first epoch (from 0) of a sampler or loss that may take over later.

    It has the last epoch in any case: late shares of few epochs would leave it none.
    """
    return min(round(getattr(deferred, "start", 0.0) * recipe.epochs), recipe.epochs - 1)


def map_ahead(function: Callable[[A], T], arguments: Iterable[A]) -> Iterator[T]:
    """Yield the results in order, worked out in a thread while earlier ones are used."""
    with ThreadPoolExecutor(1) as pool:
        waiting: deque[Future[T]] = deque()
        for argument in arguments:
            waiting.append(pool.submit(function, argument))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def own_rows(count: int, share: Share, size: int) -> list[npt.NDArray[np.int64]]:
    """Split `count` rows over all workers, every row once; this worker's, `size` at a time."""
    own = np.arange(share.rank, count, share.workers)
    return [own[start : start + size] for start in range(0, len(own), size)]
