"""The outs of a job, from the shared storage to the workspace of its sender."""

import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import atomic_path, fresh_folder
from pipeline.progress import progress_bar
from pipeline.remote import AT_ONCE
from pipeline.runtime.jobs.driver import JOURNALS
from pipeline.runtime.storage.shared import Storage
from pipeline.runtime.storage.trees import File, Tree, hash_file


def fetch(storage: Storage, tree: Tree, outs: Iterable[str], below: Path = Path()) -> None:
    """Write files of the storage below a folder, each out as a whole.

    Raises:
        PipelineError: one is missing or damaged. Nothing of its out is written, and the storage
            forgets it, so that the same command makes it again.
    """
    with progress_bar(tree.size, "fetch", "B") as bar:
        for out in (*outs, str(JOURNALS)):
            inside = [file for file in tree.files if file.path.startswith(f"{out}/")]
            single = [file for file in tree.files if file.path == out]
            if out == str(JOURNALS):
                single, inside = inside, []
            for file in single:
                target = below / file.path
                with atomic_path(target) as temporary:
                    _get(storage, file, temporary)
                    if target.is_dir():  # a version before this one wrote a folder
                        shutil.rmtree(target)
                bar.update(file.size)
            if inside or out in tree.empty:
                with fresh_folder(below / out) as folder, ThreadPoolExecutor(AT_ONCE) as pool:
                    paths = [folder / Path(file.path).relative_to(out) for file in inside]
                    for path in {path.parent for path in paths}:
                        path.mkdir(parents=True, exist_ok=True)
                    got = pool.map(partial(_get, storage), inside, paths)
                    for file, _ in zip(inside, got, strict=True):
                        bar.update(file.size)


def _get(storage: Storage, file: File, to: Path) -> None:
    try:
        storage.get(file, to)
        whole = hash_file(to) == file.sha256
    except FileNotFoundError:
        whole = False
    if not whole:
        storage.forget(file)
        raise PipelineError(
            f"{file.path} is missing or damaged in the storage {storage.uri}; the same command"
            " makes it again"
        )
    to.chmod(0o644)
