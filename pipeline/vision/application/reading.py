"""Image files as a model takes them."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.data.images.decode import UnusableImageError
from pipeline.data.packing.preprocess import preprocess_file
from pipeline.vision.inference.bundle import Bundle
from pipeline.vision.inference.predict import BATCH_SIZE, embeddings

# An image, height x width x channels, or why there is none.
Read = npt.NDArray[np.generic] | UnusableImageError


def read_files(
    bundle: Bundle, paths: Sequence[Path], workers: int
) -> Iterator[list[tuple[Path, Read]]]:
    """Read and prepare image files, in order, a batch at a time.

    Args:
        bundle: the model that they are prepared for.
        paths: the files.
        workers: threads that read and decode.
    """

    def read(path: Path) -> Read:
        try:
            return preprocess_file(path, bundle.preprocessing)
        except UnusableImageError as error:
            return error

    # Threads: decoding and resizing release the interpreter.
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(paths), BATCH_SIZE):
            piece = paths[start : start + BATCH_SIZE]
            yield list(zip(piece, pool.map(read, piece), strict=True))


def embed_files(
    bundle: Bundle, paths: Sequence[Path], workers: int
) -> tuple[dict[Path, npt.NDArray[np.float32]], list[UnusableImageError]]:
    """Return the latent vector of each image file that can be used, and what is wrong with others.

    Args:
        bundle: the model.
        paths: the files; a file that is named twice is answered once.
        workers: threads that read and decode.
    """
    vectors: dict[Path, npt.NDArray[np.float32]] = {}
    problems = []
    for piece in read_files(bundle, list(dict.fromkeys(paths)), workers):
        images = {path: image for path, image in piece if isinstance(image, np.ndarray)}
        if images:
            batch = np.stack(list(images.values()))
            vectors |= zip(images, embeddings(bundle, [batch]), strict=True)
        problems += [image for _, image in piece if isinstance(image, UnusableImageError)]
    return vectors, problems
