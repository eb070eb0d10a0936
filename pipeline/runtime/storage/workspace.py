"""A workspace's files on all nodes: published by the driver, entered by the workers."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from pipeline.errors import PipelineError
from pipeline.runtime.storage.node_cache import NodeCache, hold
from pipeline.runtime.storage.shared import Storage
from pipeline.runtime.storage.trees import DigestCache, Tree, snapshot

# Of this process: open files whose locks keep others from removing what it reads.
_HELD: dict[Path, int] = {}


@dataclass(frozen=True)
class Inputs:
    """Files of a workspace that lie in a shared storage.

    Attributes:
        storage: its address.
        digest: of their tree.
    """

    storage: str
    digest: str

    def fetch(self) -> Path:
        """Return a folder of this node that holds them, read-only; it is made once.

        It stays there as long as this process lives.

        Raises:
            PipelineError: the storage lacks a part of them.
        """
        cache = NodeCache()
        folder = cache.inputs(self.digest)
        if folder in _HELD:
            return folder
        complete = folder / ".convoy" / "complete"
        with FileLock(f"{folder}.lock"):
            descriptor = hold(folder)
            try:
                if not complete.exists():
                    storage = Storage(self.storage)
                    cache.materialize(storage, load_tree(storage, self.digest), folder)
                    complete.parent.mkdir(exist_ok=True)
                    complete.touch()
            except BaseException:
                os.close(descriptor)
                raise
            _HELD[folder] = descriptor
        return folder

    def enter(self) -> None:
        """Make that folder the current one of this process."""
        os.chdir(self.fetch())


def publish(storage: Storage, paths: Iterable[str]) -> Inputs:
    """Store the files at, or below, paths of the current folder, unless they are there."""
    here = Path.cwd()
    tree = snapshot(here, paths, DigestCache(here, here / ".convoy" / "digests.json"))
    upload(storage, tree, "upload")
    return Inputs(storage.uri, tree.digest)


def upload(storage: Storage, tree: Tree, label: str, folder: Path = Path()) -> int:
    """Store the files of a tree of a folder, then the tree; return the bytes sent."""
    sent = storage.put(tree.files, folder, label)
    save_tree(storage, tree)
    return sent


def save_tree(storage: Storage, tree: Tree) -> None:
    """Store a tree under its digest."""
    name = f"trees/{tree.digest}.json"
    if storage.read(name) is None:
        storage.write(name, tree.to_json())


def load_tree(storage: Storage, digest: str) -> Tree:
    """Read a tree.

    Raises:
        PipelineError: it is not there, or damaged.
    """
    name = f"trees/{digest}.json"
    content = storage.read(name)
    if content is None or hashlib.sha256(content).hexdigest() != digest:
        storage.remove(name)
        raise PipelineError(f"{name} in {storage.uri} is missing or damaged; run again")
    return Tree.from_json(content, f"{name} in {storage.uri}")
