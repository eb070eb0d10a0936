"""From a source to its index, remembering what was measured and compared."""

from pathlib import Path

import pyarrow as pa

from pipeline.data.indexing.comparisons import Comparisons
from pipeline.data.indexing.index import build_index
from pipeline.data.indexing.measurements import measure_all
from pipeline.data.indexing.same_picture import Pictures
from pipeline.data.indexing.verify import Limits
from pipeline.data.sources.source import ImageSource, check_labels
from pipeline.progress import progress_bar


def measure_source(
    source: ImageSource, limits: Limits, cache: Path
) -> tuple[pa.Table, tuple[str, ...]]:
    """List the images of a source and measure those that are new or changed.

    Args:
        source: of the images.
        limits: what is usable.
        cache: the folder of remembered measurements.

    Returns:
        See `measure_all`; and the files that belong to no class.

    Raises:
        PipelineError: the images cannot be listed, or no two people would read their labels alike.
    """
    listing = source.list_images()
    check_labels(listing.images["label"].to_pylist())
    return measure_all(source, listing.images, limits, cache), listing.ignored


def index_measured(
    measured: pa.Table, source: ImageSource, limits: Limits, bits: int, cache: Path
) -> pa.Table:
    """Judge measured images together, see `build_index`; pictures are compared once.

    Args:
        measured: from `measure_source`.
        source: of the images.
        limits: what is usable.
        bits: perceptual hashes at most this far apart may show one picture.
        cache: the folder of remembered comparisons.
    """
    contents = dict(zip(*(measured[name].to_pylist() for name in ("path", "sha256")), strict=True))
    compared = Comparisons(Pictures(source, limits), contents, limits, cache)
    with progress_bar(None, "near duplicates", "pair") as bar:

        def same(first: str, second: str) -> bool:
            bar.update()
            return compared.same(first, second)

        try:
            return build_index(measured, bits, same)
        finally:
            compared.save()  # also when interrupted
