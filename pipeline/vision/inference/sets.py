"""Predictions for a whole set of packed images: in this process, or wherever work is spread."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.data.shards.shards import ImageSet, open_once
from pipeline.parallel import is_spread, map_chunks
from pipeline.params.choices import views
from pipeline.progress import watched
from pipeline.vision.bundle.description import Description
from pipeline.vision.inference.bundle import Bundle, load_bundle
from pipeline.vision.inference.predict import BATCH_SIZE, Posteriors, view_posteriors
from pipeline.vision.inference.views import build_views

# From a model and batches of n x height x width x channels to one array row for each image.
Predict = Callable[[Bundle, Iterable[npt.NDArray[Any]]], npt.NDArray[Any]]

_BATCHES_PER_PIECE = 4


def over_set(predict: Predict, bundle: Bundle, images: ImageSet, label: str) -> npt.NDArray[Any]:
    """Predict for all images of a set, in order, while a bar follows.

    Batches are the same wherever they are computed.

    Args:
        predict: picklable, such as `probabilities`, `embeddings` or a `SeenIn`.
        bundle: the model.
        images: a set that lies in one folder.
        label: what the bar says.
    """
    if not is_spread():
        return predict(bundle, watched(images.batches(BATCH_SIZE), len(images), label))
    size = images.batch_size(BATCH_SIZE)
    pieces = map_chunks(
        partial(_predict_rows, predict, (bundle.folder, bundle.description), images.folder, size),
        range(len(images)),
        chunk=_BATCHES_PER_PIECE * size,
        label=label,
    )
    found = list(pieces)
    return np.concatenate(found) if found else predict(bundle, [])


@dataclass(frozen=True)
class SeenIn:
    """Predicts what the network itself says of images in one view, see `view_posteriors`.

    Attributes:
        view: as params.yaml or a bundle has it.
        seed: of random views.
    """

    view: views.View
    seed: int

    def __call__(self, bundle: Bundle, batches: Iterable[npt.NDArray[Any]]) -> Posteriors:
        """Return n x classes."""
        channels, height, width = bundle.description.shape
        (function,) = build_views([self.view], self.seed, (height, width, channels))
        return view_posteriors(bundle, batches, function)


def _predict_rows(
    predict: Predict,
    model: tuple[Path, Description],
    images: Path,
    size: int,
    rows: Sequence[int],
) -> npt.NDArray[Any]:
    """Predict for some rows of a set. Runs in a worker, which has one core."""
    torch.set_num_threads(1)
    opened = open_once(images)
    folder, description = model
    bundle = replace(load_once(folder.resolve()), description=description)
    starts = range(rows[0], rows[-1] + 1, size)
    end = rows[-1] + 1
    return predict(
        bundle, (opened.gather(np.arange(start, min(start + size, end))) for start in starts)
    )


@lru_cache(maxsize=1)
def load_once(folder: Path) -> Bundle:
    """Load a bundle; a process that gets one piece of work after the other keeps the latest."""
    return load_bundle(folder)
