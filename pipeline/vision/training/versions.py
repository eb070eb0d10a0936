"""The libraries and the code that decide the outcome of a training."""

from importlib.metadata import version
from pathlib import Path

from pipeline.data.shards.statistics import files_digest

_LIBRARIES = ("torch", "torchvision", "numpy")
_VISION = Path(__file__).parents[1]
# Packed images, and all that turns them into weights.
_FOLDERS = (
    _VISION.parent / "data" / "shards",
    *(_VISION / name for name in ("bundle", "networks", "training", "weights")),
)


def library_versions() -> dict[str, str]:
    """Return the installed version of each library that computes, without importing it."""
    return {name: version(name) for name in _LIBRARIES}


def code_digest() -> str:
    """Hash the code on which weights depend: sha256, hex."""
    return files_digest(_FOLDERS, "*.py")
