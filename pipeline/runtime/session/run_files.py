"""What a worker writes and reads in the run folder of the driver, wherever that lies."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipeline.files import atomic_path


class RunFiles(Protocol):
    """Small files of a run folder, by their paths on the driver's node."""

    def replace(self, path: Path, text: str) -> None:
        """Write a file as a whole."""

    def append(self, path: Path, text: str) -> None:
        """Add to the end of a file."""

    def exists(self, path: Path) -> bool:
        """Return whether there is such a file."""


@dataclass(frozen=True)
class LocalFiles:
    """Those of a driver on this machine."""

    def replace(self, path: Path, text: str) -> None:
        """Write a file as a whole."""
        with atomic_path(path) as new:
            new.write_text(text)

    def append(self, path: Path, text: str) -> None:
        """Add to the end of a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(text)

    def exists(self, path: Path) -> bool:
        """Return whether there is such a file."""
        return path.exists()


LOCAL = LocalFiles()
