"""Where `data.root` lies, and which kind of data set it is."""

from pathlib import Path

from pipeline.data.sources.folder import FolderSource
from pipeline.data.sources.manifest import ManifestSource
from pipeline.data.sources.parquet import ParquetSource
from pipeline.data.sources.source import ImageSource
from pipeline.files import located


def open_source(root: str | Path) -> ImageSource:
    """Return the source of the images at `root`; what is wrong with it shows when it is used.

    Args:
        root: a .parquet file with image bytes, or a folder of such files; a .csv or .parquet
            manifest; a folder of class folders, or one with train/, val/, test/ that hold class
            folders. See `located` for `~` and relative paths.
    """
    root = located(root)
    if ParquetSource.accepts(root):
        return ParquetSource(root)
    if root.is_file():
        return ManifestSource(root)
    return FolderSource(root)
