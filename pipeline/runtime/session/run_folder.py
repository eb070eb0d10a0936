"""The folder of one training on the shared storage, and what its processes leave there."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """Where things are.

    Attributes:
        storage: the folder of all runs; on several nodes a shared one.
        name: of the run: a digest of all that the training depends on, so that an equal
            training goes on where this one was stopped, and another one starts afresh.
    """

    storage: Path
    name: str

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.storage / self.name

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def events(self) -> Path:
        """The events that the first worker logs for the driver."""
        return self.path / "events.jsonl"

    @property
    def system(self) -> Path:
        """The folder of the system metrics of each node."""
        return self.path / "system"

    @property
    def stop(self) -> Path:
        """A file by which the driver asks the workers to save and stop."""
        return self.path / "stop"
