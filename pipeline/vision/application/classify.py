"""From image files to classes."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.data.images.decode import UnusableImageError
from pipeline.data.packing.preprocess import preprocess_file
from pipeline.vision.application.answers import Answer
from pipeline.vision.inference.bundle import Bundle
from pipeline.vision.inference.predict import BATCH_SIZE, probabilities


def classify_files(bundle: Bundle, paths: Sequence[Path], workers: int) -> Iterator[Answer]:
    """Classify image files, in order. One that cannot be used gets its problem for an answer.

    Args:
        bundle: the model.
        paths: the files.
        workers: threads that read and decode.
    """

    def read(path: Path) -> npt.NDArray[np.generic] | UnusableImageError:
        try:
            return preprocess_file(path, bundle.preprocessing)
        except UnusableImageError as error:
            return error

    # Threads: decoding and resizing release the interpreter.
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(paths), BATCH_SIZE):
            piece = paths[start : start + BATCH_SIZE]
            read_pieces = list(pool.map(read, piece))
            images = [image for image in read_pieces if isinstance(image, np.ndarray)]
            posteriors = iter(probabilities(bundle, [np.stack(images)] if images else []))
            for path, image in zip(piece, read_pieces, strict=True):
                if isinstance(image, UnusableImageError):
                    yield Answer(path, None, (), str(image))
                else:
                    posterior = next(posteriors)
                    label = bundle.classes[int(posterior.argmax())]
                    yield Answer(path, label, tuple(posterior.tolist()), None)
