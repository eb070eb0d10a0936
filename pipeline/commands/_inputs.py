"""What a person hands to a command: image files, a model, and where the answer goes."""

import os
import stat
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryFile

from pipeline.errors import PipelineError
from pipeline.files import as_text
from pipeline.params import Tracking, load_params
from pipeline.vision.inference.bundle import Bundle, load_bundle


def find_files(paths: Iterable[Path]) -> list[Path]:
    """List the files among `paths` and below the folders among them, without hidden ones.

    Raises:
        PipelineError: a path that is not there, is neither file nor folder, or no file at all.
    """
    files: list[Path] = []
    for path in paths:
        try:
            mode = path.stat().st_mode
        except OSError as error:
            raise PipelineError(
                f"{as_text(path)}: {error.strerror}; name image files or folders"
            ) from error
        if stat.S_ISDIR(mode):
            below = (found for found in path.rglob("*") if found.is_file())
            files += sorted(f for f in below if not _hidden(f.relative_to(path)))
        elif stat.S_ISREG(mode):
            files.append(path)
        else:
            raise PipelineError(f"{as_text(path)}: not a regular file; name image files or folders")
    if not files:
        names = ", ".join(map(as_text, paths))
        raise PipelineError(f"no files in {names}; name image files or folders")
    return files


class UnusableFiles:
    """What is wrong with files that cannot be used: a line each on stderr while there are others.

    Args:
        count: of all files that were named.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._last = ""

    def add(self, problem: object) -> None:
        """Take in what is wrong with one of them."""
        self._last = str(problem)
        if self._count > 1:
            print(f"convoy: {self._last}", file=sys.stderr)

    def none_is(self, what: str) -> PipelineError:
        """Return the mistake that none of them is what is needed, of one file its own problem."""
        if self._count == 1:
            return PipelineError(self._last)
        return PipelineError(f"none of {self._count} files is {what}")


def check_output(output: Path, suffixes: Sequence[str]) -> None:
    """Refuse what cannot be written before hours are spent on it.

    Raises:
        PipelineError: the name has another ending, or no file can be written there.
    """
    if output.suffix not in suffixes:
        *others, last = suffixes
        expected = f"{', '.join(others)} or {last}" if others else last
        raise PipelineError(
            f"--output {output}: expected a name that ends in {expected}, got '{output.suffix}'"
        )
    reason = None
    try:
        if output.is_dir():
            reason = "is a folder"
        output.parent.mkdir(parents=True, exist_ok=True)
        # Rights alone do not tell: root has all, and a file system may be read-only or full.
        TemporaryFile(dir=output.parent).close()
    except PermissionError:
        reason = f"{output.parent} is not writable"
    except (FileExistsError, NotADirectoryError):
        reason = f"{output.parent} is not a folder"
    except OSError as error:
        reason = error.strerror
    if reason:
        raise PipelineError(f"--output {output}: {reason}; name a file that can be written")


def open_model(model: str) -> Bundle:
    """Load a bundle folder, an MLflow run id or a registry URI.

    Raises:
        PipelineError: no such model.
    """
    return load_bundle(locate_bundle(model))


def locate_bundle(model: str) -> Path:
    """Return the folder of a bundle that is named as in `open_model`.

    Raises:
        PipelineError: no such model in the store.
    """
    from pipeline.runtime.registry.versions import find_bundle, in_store

    if not in_store(model):
        return Path(model)
    # With a server, no params.yaml is needed: a model is used far from where it was made.
    server = os.environ.get("MLFLOW_TRACKING_URI")
    own = (
        Tracking(uri=server, experiment="any", system_metrics=False, checkpoints="off")
        if server
        else None
    )
    return find_bundle(model, own or load_params().tracking)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
