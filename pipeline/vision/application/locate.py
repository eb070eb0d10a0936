"""From image files to where they show a class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.images.decode import UnusableImageError, decode, read_content, read_header
from pipeline.data.images.strict import verify
from pipeline.data.packing.preprocess import MAX_PIXELS
from pipeline.errors import PipelineError
from pipeline.files import as_text
from pipeline.vision.inference.bundle import Bundle
from pipeline.vision.location.class_maps import ClassMaps
from pipeline.vision.location.located import Location, Pixels, WholeImages, locate


@dataclass(frozen=True)
class Found:
    """What the model says of one file.

    Attributes:
        path: of the file.
        location: None if the file cannot be used.
        problem: why it cannot be used; names the file. None if it can.
    """

    path: Path
    location: Location | None
    problem: str | None


def locate_files(
    bundle: Bundle,
    paths: Sequence[Path],
    asked: int | None,
    threshold: float,
    *,
    full_size: bool,
) -> Iterator[Found]:
    """Locate a class in image files, in order. One that cannot be used gets its problem.

    Args:
        bundle: the model.
        paths: the files.
        asked: index of a class; None for the one that is predicted of each file.
        threshold: where a box begins, relative to the map's maximum.
        full_size: look at each image at its own resolution.

    Raises:
        PipelineError: full size, and the network cannot be made fully convolutional.
    """
    maps = ClassMaps(bundle.network, bundle.description.shape)
    whole = WholeImages(bundle, maps) if full_size else None
    for path in paths:
        try:
            pixels, size = _read(path, bundle, full_size=full_size)
            if whole is None:
                location = locate(bundle, maps, pixels, size, asked=asked, threshold=threshold)
            else:
                location = whole.locate(pixels, asked=asked, threshold=threshold)
        except PipelineError as error:
            if whole is None and not isinstance(error, UnusableImageError):
                raise
            # An error is one line, whatever the name of the file.
            yield Found(path, None, str(PipelineError(f"{as_text(path)}: {error}")))
        else:
            yield Found(path, location, None)


def _read(path: Path, bundle: Bundle, *, full_size: bool) -> tuple[Pixels, tuple[int, int]]:
    """Return the upright pixels of a file, and the height and width of the upright image.

    A JPEG that is to be shrunk may be decoded at a fraction of its size, as `preprocess` does.

    Raises:
        UnusableImageError: unreadable, not an image, truncated or too large.
    """
    content = read_content(path, MAX_PIXELS)
    verify(content, MAX_PIXELS)
    header, to = read_header(content), bundle.preprocessing
    needed = (header.height, header.width) if full_size else (to.height, to.width)
    pixels = decode(content, to.background, grey=to.channels == 1, needed=needed)
    turned = (header.width > header.height) != (pixels.shape[1] > pixels.shape[0])
    size = header.height, header.width
    return pixels, size[::-1] if turned else size
