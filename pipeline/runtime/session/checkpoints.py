"""Where the checkpoints of one training are kept: in a folder, or in a shared storage.

In a shared storage each group of workers, which one driver or the one after it starts, has a
generation of its own: a group whose driver has lost it never writes where its successor does.

    runs/<name>/<generation>/begun
    runs/<name>/<generation>/<checkpoint>/...      its manifest comes last
"""

import shutil
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from pipeline.errors import PipelineError
from pipeline.remote import AwayError
from pipeline.runtime.session.checkpoint_store import (
    go_back_to,
    newest_checkpoint,
    save_checkpoint,
)
from pipeline.runtime.storage.shared import Storage
from pipeline.vision.training.checkpoint import MANIFEST_FILE, is_whole

if TYPE_CHECKING:  # the driver, which only looks for checkpoints, needs no torch
    from pipeline.vision.training.trainer import Trainer

_KEPT = 2
_PATIENCE_S = 3.0  # with a storage that is away, while the training can go on without it
_BEGUN = "begun"


class Checkpoints(Protocol):
    """The checkpoints of one training."""

    def moved(self, scratch: Path) -> Self:
        """Return the same for another node, whose trainings have folders below `scratch`."""

    def begin(self) -> str:
        """Return the name of the one to go on from, '' for none; the first worker calls it."""

    def open(self, name: str) -> Path:
        """Return the folder of one, on this node."""

    def save(self, trainer: "Trainer", *, last: bool) -> str:
        """Save one and return its name, '' where that must wait for another time.

        Args:
            trainer: what is saved.
            last: whether there is no other time.

        Raises:
            PipelineError: it cannot be saved, or another group of workers has taken over.
        """


@dataclass(frozen=True)
class LocalCheckpoints:
    """Those in a folder that all workers see."""

    folder: Path

    def moved(self, scratch: Path) -> Self:  # noqa: ARG002
        """Return itself: all workers see the folder."""
        return self

    def begin(self) -> str:
        """Return the name of the newest that is whole; others are removed."""
        newest = newest_checkpoint(self.folder)
        go_back_to(newest, self.folder)
        return newest.name if newest else ""

    def open(self, name: str) -> Path:
        """Return its folder."""
        return self.folder / name

    def save(self, trainer: "Trainer", *, last: bool) -> str:  # noqa: ARG002
        """Save one."""
        return save_checkpoint(trainer, self.folder).name


@dataclass
class SharedCheckpoints:
    """Those in a shared storage; what is fetched or being written lies in `folder`, of this node.

    Attributes:
        storage: address of the shared storage.
        run: name of the training.
        folder: of this node.
        generation: of this group of workers; '' before `begin`.
    """

    storage: str
    run: str
    folder: Path
    generation: str = field(default="", init=False)

    def moved(self, scratch: Path) -> Self:
        """Return the same for another node."""
        return replace(self, folder=scratch / self.run)

    def begin(self) -> str:
        """Begin a generation, and return the name of the newest checkpoint that is whole."""
        newest = self.newest()
        storage = Storage(self.storage)
        begun = self._generations(storage)
        count = max((int(name.partition("-")[0]) for name in begun), default=0) + 1
        self.generation = f"{count:06d}-{uuid.uuid4().hex[:8]}"
        storage.write(f"{self._root}/{self.generation}/{_BEGUN}", b"")
        return newest

    def newest(self) -> str:
        """Return the name of the newest checkpoint that is whole, '' for none."""
        for name in self._names(Storage(self.storage)):
            try:
                self.open(name)
            except AwayError:  # of what it holds nothing is known
                raise
            except PipelineError:
                continue
            return name
        return ""

    def open(self, name: str) -> Path:
        """Fetch one.

        Raises:
            PipelineError: it is gone or damaged.
        """
        path = self.folder / name
        if is_whole(path):
            return path
        storage, fetched = Storage(self.storage), path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        fetched.mkdir(parents=True)
        try:
            for file in storage.names(f"{self._root}/{name}"):
                storage.get_file(file, fetched / file.rpartition("/")[2])
            if is_whole(fetched):
                shutil.rmtree(path, ignore_errors=True)
                fetched.replace(path)
        except OSError as error:
            if not is_whole(path):  # else another worker of this node was faster
                raise PipelineError(f"the checkpoint {name} cannot be fetched: {error}") from error
        finally:
            shutil.rmtree(fetched, ignore_errors=True)
        if not is_whole(path):
            raise PipelineError(f"the checkpoint {name} in {self.storage} is not whole")
        return path

    def save(self, trainer: "Trainer", *, last: bool) -> str:
        """Save one here, then in the storage."""
        local = save_checkpoint(trainer, self.folder / self.generation)
        storage = Storage(self.storage) if last else Storage(self.storage, _PATIENCE_S)
        name = f"{self.generation}/{local.name}"
        try:
            self._check_generation(storage)
            files = sorted(local.iterdir(), key=lambda file: file.name == MANIFEST_FILE)
            for file in files:
                storage.put_file(file, f"{self._root}/{name}/{file.name}")
            # What came before is of no use any more, but one in case this one is damaged.
            for old in [n for n in self._names(storage) if n != name][_KEPT - 1 :]:
                storage.remove(f"{self._root}/{old}")
        except AwayError:
            if last:
                raise
            return ""
        return name

    def remove(self) -> None:
        """Remove all checkpoints of the training."""
        Storage(self.storage, _PATIENCE_S).remove(self._root)

    @property
    def _root(self) -> str:
        return f"runs/{self.run}"

    def _check_generation(self, storage: Storage) -> None:
        """Refuse to go on beside a later group of workers."""
        if max(self._generations(storage), default="") > self.generation:
            raise PipelineError(
                "another group of workers has taken over this training; this one ends"
            )

    def _generations(self, storage: Storage) -> set[str]:
        return {name.split("/")[2] for name in storage.names(self._root)}

    def _names(self, storage: Storage) -> list[str]:
        """Return generation and name of all whole checkpoints, newest first."""
        names = storage.names(self._root)
        ends = f"/{MANIFEST_FILE}"
        found = [name[len(self._root) + 1 : -len(ends)] for name in names if name.endswith(ends)]
        return sorted(found, key=lambda name: tuple(reversed(name.split("/"))), reverse=True)
