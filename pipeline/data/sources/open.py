"""Where `data.root` lies, and which kind of data set it is."""

from pathlib import Path

from pipeline.data.sources.folder import FolderSource
from pipeline.data.sources.manifest import ManifestSource
from pipeline.data.sources.parquet import ParquetSource
from pipeline.data.sources.source import ImageSource
from pipeline.errors import PipelineError
from pipeline.files import located
from pipeline.remote import is_uri


def open_source(root: str | Path) -> ImageSource:
    """Return the source of the images at `root`; what is wrong with it shows when it is used.

    Args:
        root: a .parquet file with image bytes, or a folder of such files; a .csv or .parquet
            manifest; a folder of class folders, or one with train/, val/, test/ that hold class
            folders. See `located` for `~` and relative paths. Or the address of a .csv manifest or
            of such a folder that fsspec opens: s3://bucket/images.

    Raises:
        PipelineError: an address that nothing opens, or of a Parquet file.
    """
    if is_uri(str(root)):
        return _open_remote(str(root))
    root = located(root)
    if ParquetSource.accepts(root):
        return ParquetSource(root)
    if root.is_file():
        return ManifestSource(root)
    return FolderSource(root)


def _open_remote(root: str) -> ImageSource:
    scheme, separator, place = root.partition("://")
    uri = scheme + separator + place.rstrip("/")
    if not uri.lower().endswith(".parquet"):
        return ManifestSource(uri) if uri.lower().endswith(".csv") else FolderSource(uri)
    raise PipelineError(
        f"data.root is {uri}: Parquet files are read from folders only; copy them to a folder, that"
        " all nodes share if they are to read it, or name a folder of class folders or a .csv"
        " manifest"
    )
