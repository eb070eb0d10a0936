"""Two models on the same labelled images: their posteriors, and how long each takes.

The models may differ in preprocessing and in classes. Where a model needs its images in another
size or mode than they are packed in, they are prepared from their files again. A model never
answers a class that it does not know, and is wrong there; an answer of a class that none of the
images has is wrong too. Each model is so judged by what it would do on these images today.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from pipeline.data.packing.pack import PackRow, preprocess_rows
from pipeline.data.shards.shards import ImageSet, Pixels, SetInfo
from pipeline.data.sources.source import ImageSource
from pipeline.vision.inference.bundle import Bundle
from pipeline.vision.inference.predict import BATCH_SIZE, probabilities

_TIMED_IMAGES = 32
_ROUNDS = 7
_TIMED_S = 1.0


@dataclass(frozen=True)
class PairedEvaluation:
    """The posteriors of two models on n images.

    Attributes:
        classes: k names: those of the images, then what else a model knows.
        labels: n class numbers.
        first: n x k posteriors; 0 for classes that the model does not know.
        second: n x k posteriors, likewise.
        seconds: per image, of the first and of the second model.
    """

    classes: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    first: npt.NDArray[np.float64]
    second: npt.NDArray[np.float64]
    seconds: tuple[float, float]


def evaluate_pair(
    first: Bundle, second: Bundle, images: ImageSet, source: ImageSource
) -> PairedEvaluation:
    """Predict with both models, and time them in turns on the first images.

    Args:
        first: a model.
        second: a model, on the same device.
        images: packed.
        source: of the image files.

    Raises:
        PipelineError: an image must be prepared again, and its file is gone or has changed.
    """
    classes = tuple(dict.fromkeys((*images.info.classes, *first.classes, *second.classes)))
    posteriors = [
        spread(probabilities(bundle, prepared(bundle, images, source)), bundle.classes, classes)
        for bundle in (first, second)
    ]
    batches = [
        next(iter(prepared(bundle, images, source)))[:_TIMED_IMAGES] for bundle in (first, second)
    ]
    return PairedEvaluation(
        classes,
        images.labels.astype(np.int64),
        posteriors[0],
        posteriors[1],
        time_in_turns((first, batches[0]), (second, batches[1])),
    )


def prepared(bundle: Bundle, images: ImageSet, source: ImageSource) -> Iterator[Pixels]:
    """Yield the images in order as the model wants them, from the shards or else from files."""
    if bundle.preprocessing == images.info.preprocessing:
        yield from images.batches(BATCH_SIZE)
        return
    info = SetInfo(
        images.info.classes, bundle.preprocessing, f"uint{bundle.preprocessing.bit_depth}"
    )
    rows = zip(images.paths, images.labels.tolist(), images.ids, strict=True)
    while piece := [PackRow(*row) for row in islice(rows, min(BATCH_SIZE, info.rows_per_batch))]:
        yield preprocess_rows(piece, source, info)


def spread(
    posteriors: npt.NDArray[np.float64], own: tuple[str, ...], classes: tuple[str, ...]
) -> npt.NDArray[np.float64]:
    """Place the columns of the classes `own` among `classes`; the others are 0."""
    wide = np.zeros((len(posteriors), len(classes)))
    wide[:, [classes.index(name) for name in own]] = posteriors
    return wide


def time_in_turns(
    first: tuple[Bundle, Pixels], second: tuple[Bundle, Pixels]
) -> tuple[float, float]:
    """Return each model's least seconds per image.

    In turns, so that both meet the same machine; the least, since other work only ever adds.
    """
    for bundle, images in (first, second):
        probabilities(bundle, [images])  # the first call chooses kernels and allocates
    least = [float("inf"), float("inf")]
    begun, rounds = time.perf_counter(), 0
    while rounds < _ROUNDS or time.perf_counter() - begun < _TIMED_S:
        for turn, (bundle, images) in enumerate((first, second)):
            start = time.perf_counter()
            probabilities(bundle, [images])
            least[turn] = min(least[turn], (time.perf_counter() - start) / len(images))
        rounds += 1
    return least[0], least[1]
