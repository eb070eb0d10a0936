"""Files of a source, and columns of its listing."""

from pathlib import Path

from pipeline.data.sources.source import ImageSource


def touch(root: Path, *paths: str) -> None:
    """Write files of 7 bytes, in folders that are made for them."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x" * 7)


def columns_of(source: ImageSource, *names: str) -> list[tuple[object, ...]]:
    """List the images of a source, and return some columns, row by row."""
    images = source.list_images().images
    return list(zip(*(images[name].to_pylist() for name in names), strict=True))
