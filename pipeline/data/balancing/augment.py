"""Label-preserving augmentation with albumentations. No other module imports it."""

import os
import random
import sys
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import PipelineError
from pipeline.params import misfits
from pipeline.params.choices.transforms import Superimpose, Transform

# Height x width x channels, uint8 or uint16.
Pixels = npt.NDArray[Any]
# Image, partner, seed to image; uint8, or float32 in [0, 1].
_Step = Callable[[Pixels, Pixels, int], Pixels]


class Augmenter:
    """One policy for images of one shape; what it does depends on image, partner and seed alone."""

    def __init__(
        self, policy: Sequence[Transform], shape: tuple[int, int, int], where: str
    ) -> None:
        """Build the transforms.

        Args:
            policy: transforms in the order in which they are applied.
            shape: height, width, channels of the images.
            where: the policy's key in params.yaml, for messages.

        Raises:
            PipelineError: a transform that does not suit these images.
        """
        if wrong := misfits(policy, shape):
            raise PipelineError("; ".join(f"{where}{mistake}" for mistake in wrong))
        self._where = where
        self._shape = shape
        self._steps: list[_Step] = []
        for ours, group in groupby(policy, key=lambda item: isinstance(item, Superimpose)):
            if ours:
                self._steps += [
                    _Superimpose(item) for item in group if isinstance(item, Superimpose)
                ]
            else:
                self._steps.append(_Composed([_transform(item, shape) for item in group]))

    def __call__(self, image: Pixels, partner: Pixels, seed: int) -> Pixels:
        """Return an altered copy of `image`.

        Args:
            image: height x width x channels, uint8 or uint16.
            partner: another image of the class, alike in shape and type.
            seed: 0 to 2**32 - 1.

        Raises:
            PipelineError: a transform failed, or changed the size.
        """
        deep = image.dtype == np.uint16
        if deep:  # albumentations takes bytes and floats
            image, partner = (x.astype(np.float32) / np.float32(65535) for x in (image, partner))
        try:
            for number, step in enumerate(self._steps):
                image = step(image, partner, (seed + number) % 2**32)
        except Exception as error:  # some values fail only on some images, in OpenCV or numpy
            raise PipelineError(
                f"{self._where}: albumentations failed on images of {_by(self._shape)}: {error};"
                " change the policy's arguments"
            ) from error
        if image.shape != self._shape:
            raise PipelineError(
                f"{self._where}: the policy turns images of {_by(self._shape)} into"
                f" {_by(image.shape)}; set keep_size: true and leave out crop_border"
            )
        if deep:
            image = np.rint(np.clip(image, 0, 1) * 65535).astype(np.uint16)
        return image


class _Composed:
    """Transforms of albumentations in a row."""

    def __init__(self, transforms: list[Any]) -> None:
        self._compose = _albumentations().Compose(transforms)
        self._lock = Lock()

    def __call__(self, image: Pixels, partner: Pixels, seed: int) -> Pixels:  # noqa: ARG002
        # Seeded for each image: left alone, every process would draw the same stream. One thread
        # at a time, for the stream is the transforms' own.
        with self._lock:
            self._compose.set_random_seed(seed)
            pixels: Pixels = self._compose(image=image)["image"]
        return pixels


class _Superimpose:
    """Blend in another image of the class: (1 - w) image + w partner, w drawn from a range."""

    def __init__(self, how: Superimpose) -> None:
        self._how = how

    def __call__(self, image: Pixels, partner: Pixels, seed: int) -> Pixels:
        draw = random.Random(seed)  # noqa: S311 - not for secrets
        if draw.random() >= self._how.p:
            return image
        weight = np.float32(draw.uniform(*self._how.weight))
        mixed = (1 - weight) * image + weight * partner
        return (np.rint(mixed) if image.dtype == np.uint8 else mixed).astype(image.dtype)


def _transform(item: Transform, shape: tuple[int, int, int]) -> Any:
    size = {"size": shape[:2]} if item.key == "RandomResizedCrop" else {}
    return getattr(_albumentations(), item.key)(**item.model_dump(), **size)


@cache
def _albumentations() -> Any:
    """Import albumentations, quietly.

    It would ask the network for a newer version, and import torch for a transform that is not
    used here: seconds, and 200 MB in each worker process.
    """
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    sys.modules["albumentations.pytorch"] = None  # type: ignore[assignment]
    try:
        import albumentations
    finally:
        del sys.modules["albumentations.pytorch"]
    return albumentations


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
