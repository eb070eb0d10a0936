"""Where files of a data set lie: in a folder of this machine, or below an address of fsspec's."""

from pathlib import Path

from pipeline.data.images.decode import UnusableImageError, read_content
from pipeline.data.sources._bucket import BucketFiles, read_object
from pipeline.data.sources._files import LocalFiles
from pipeline.data.sources.source import Place


def files_below(folder: Place) -> LocalFiles | BucketFiles:
    """Return the files below a folder.

    Raises:
        PipelineError: it cannot be listed.
    """
    return LocalFiles(folder) if isinstance(folder, Path) else BucketFiles(folder)


def read_below(folder: Place, path: str, max_pixels: int | None = None) -> bytes:
    """Read what should be an image, of at most `max_pixels` where they are given.

    Raises:
        UnusableImageError: gone, unreadable or larger than any such image.
        PipelineError: the place does not answer, or refuses.
    """
    if isinstance(folder, Path):
        return read_content(f"{folder}/{path}", max_pixels)
    return read_object(folder, path, max_pixels)


def read_whole(file: Place) -> bytes:
    """Read a file that is no image.

    Raises:
        OSError: gone or unreadable.
        PipelineError: the place does not answer, or refuses.
    """
    if isinstance(file, Path):
        return file.read_bytes()
    folder, _, name = file.rpartition("/")
    try:
        return read_object(folder, name)
    except UnusableImageError as error:
        raise FileNotFoundError(f"{file}: no such file") from error
