"""From image files to classes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.data.images.decode import UnusableImageError
from pipeline.vision.application.answers import Answer
from pipeline.vision.application.reading import read_files
from pipeline.vision.inference.bundle import Bundle
from pipeline.vision.inference.predict import probabilities


def classify_files(bundle: Bundle, paths: Sequence[Path], workers: int) -> Iterator[Answer]:
    """Classify image files, in order. One that cannot be used gets its problem for an answer.

    Args:
        bundle: the model.
        paths: the files.
        workers: threads that read and decode.
    """
    for piece in read_files(bundle, paths, workers):
        images = [image for _, image in piece if isinstance(image, np.ndarray)]
        posteriors = iter(probabilities(bundle, [np.stack(images)] if images else []))
        for path, image in piece:
            if isinstance(image, UnusableImageError):
                yield Answer(path, None, (), str(image))
            else:
                posterior = next(posteriors)
                label = bundle.classes[int(posterior.argmax())]
                yield Answer(path, label, tuple(posterior.tolist()), None)
