"""Images of a training's first batches, as the trainer makes them: for people to look at."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.data.shards.shards import ImageSet
from pipeline.evaluation.plots.examples import Partner, TrainingExample
from pipeline.params.choices.training import Training
from pipeline.vision.bundle.inputs import Normalization
from pipeline.vision.training.augment import build_augment
from pipeline.vision.training.batches import Batches, BatchPlan, Share, compose
from pipeline.vision.training.losses import target_rows
from pipeline.vision.training.sources import MappedPixels, PixelTransform

# Batches that are looked through for one of mixup and one of cutmix, where each draws.
_BATCHES = 16

Images = npt.NDArray[Any]


def training_examples(images: ImageSet, recipe: Training, count: int) -> list[TrainingExample]:
    """Return images of the first batches of a training.

    They are those very batches: the trainer's own code plans them, from the recipe's seed, and
    they are the same at any number of workers. Where images are mixed, those shown are spread
    evenly over the weights of a batch, which shows how often it is hardly mixed at all; with both
    mixup and cutmix, half of them come from the first batch of each.

    Args:
        images: the training set.
        recipe: how it is trained on.
        count: images to return, at least 2; all of a batch that has fewer.

    Returns:
        None at all where nothing is augmented nor mixed.
    """
    mixes = recipe.mixup_alpha > 0 or recipe.cutmix_alpha > 0
    if not mixes and not recipe.augment:
        return []
    reader = _Reader(images, recipe)
    plans = list(
        _distinct(reader.plans(), 2 if min(recipe.mixup_alpha, recipe.cutmix_alpha) else 1)
    )
    return [
        example
        for plan in plans
        for example in reader.examples(plan, _spread(reader.weights(plan), count // len(plans)))
    ]


def _distinct(plans: Iterator[BatchPlan], kinds: int) -> Iterator[BatchPlan]:
    """Yield the first plan of each kind of mixing, as far as there is one."""
    seen: set[bool | None] = set()
    for plan in plans:
        kind = plan.mixing.cut if plan.mixing else None
        if kind not in seen:
            seen.add(kind)
            yield plan
        if len(seen) == kinds:
            return


def _spread(weights: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.intp]:
    """Return rows whose weights are spread evenly among all, the lowest first."""
    order = np.argsort(weights, kind="stable")
    middles = (np.arange(count) + 0.5) * len(order) / count
    return order[np.unique(middles.astype(np.int64))]


class _Reader:
    """The batches of a training, with pixels as they are before normalisation."""

    def __init__(self, images: ImageSet, recipe: Training) -> None:
        self._images, self._recipe = images, recipe
        height, width, channels = images.info.shape
        augment = build_augment(recipe.augment, images.info.shape) if recipe.augment else None
        unchanged = Normalization.of((0.0,) * channels, (1.0,) * channels, torch.device("cpu"))
        transform = PixelTransform.of(images.info, unchanged, augment)
        self._source = MappedPixels(images, transform, pin=False)
        self._batches = Batches(self._source, recipe, augment, (height, width))
        self._targets = target_rows(recipe, images.class_counts())

    def plans(self) -> Iterator[BatchPlan]:
        """Yield the first batches of the first epoch."""
        for step in range(min(_BATCHES, self._batches.steps_per_epoch)):
            yield next(self._batches.stream(Share(), 0, step))

    def weights(self, plan: BatchPlan) -> npt.NDArray[np.float64]:
        """Return the weight of each row's own image: 1 without mixing."""
        if plan.mixing is None:
            return np.ones(plan.global_size)
        how: npt.NDArray[np.float64] = plan.mixing.how.numpy().astype(np.float64)
        if not plan.mixing.cut:
            return how
        top, left, bottom, right = how.T
        height, width, _ = self._images.info.shape
        share: npt.NDArray[np.float64] = 1 - (bottom - top) * (right - left) / (height * width)
        return share

    def examples(
        self, plan: BatchPlan, rows: Sequence[int] | npt.NDArray[np.intp]
    ) -> list[TrainingExample]:
        """Return the given rows of a batch."""
        classes, weights = self._images.info.classes, self.weights(plan)
        raw = plan.raw.numpy().astype(self._images.info.dtype)
        augmented = self._pixels(self._source.prepare(plan.raw, plan.augment))
        inputs, targets = compose(plan, self._source, self._targets, torch.device("cpu"))
        pixels, found = self._pixels(inputs), []
        for row in rows:
            partner = None
            if plan.mixing:
                other = int(plan.mixing.partners[row])
                kind = "cutmix" if plan.mixing.cut else "mixup"
                name = classes[int(plan.labels[other])]
                partner = Partner(augmented[other], name, kind, float(weights[row]))
            own = int(plan.mixing.own[row]) if plan.mixing else row
            found.append(
                TrainingExample(
                    image=raw[own],
                    label=classes[int(plan.labels[own])],
                    augmented=augmented[own] if self._recipe.augment else None,
                    partner=partner,
                    trained_on=pixels[row],
                    target=_shares(targets[row], classes),
                )
            )
        return found

    def _pixels(self, inputs: Tensor) -> Images:
        """Turn n x channels x height x width floats into pixels of the images' own type."""
        full_scale = np.iinfo(self._images.info.dtype).max
        values = (inputs.permute(0, 2, 3, 1) * full_scale).round().clamp(0, full_scale)
        return values.numpy().astype(self._images.info.dtype)


def _shares(target: Tensor, classes: Sequence[str]) -> tuple[tuple[str, float], ...]:
    order = torch.argsort(target, descending=True, stable=True)
    return tuple((classes[int(i)], float(target[i])) for i in order if target[i] > 0)
