"""Files that are whole or absent, JSON that diffs well, and where things lie that last."""

import fcntl
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.errors import PipelineError

_SUFFIX = ".tmp"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path` when the block ends well."""
    _remove_leftovers(path)
    with _naming(path):
        descriptor, name = tempfile.mkstemp(_SUFFIX, f".{path.name}.", path.parent)
    temporary = Path(name)
    try:
        with _held(descriptor):
            yield temporary
            # mkstemp makes files private; a result is as readable as the umask lets any file be.
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def fresh_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; it replaces `path` when the block ends well."""
    _remove_leftovers(path)
    with _naming(path):
        temporary = Path(tempfile.mkdtemp(_SUFFIX, f".{path.name}.", path.parent))
    try:
        with _held(os.open(temporary, os.O_RDONLY)):
            inner = temporary / path.name  # made with the permissions that the umask allows
            inner.mkdir()
            yield inner
            if path.exists():  # moved as a whole: where it may not be, nothing of it is lost
                path.replace(temporary / f"{path.name}.before")
            inner.replace(path)
    finally:
        shutil.rmtree(temporary)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let an error name the path that a person knows."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def _held(descriptor: int) -> Iterator[None]:
    """Lock what is being written until the block ends or the process dies; then close it."""
    try:
        with suppress(OSError):  # a file system without locks: nothing is removed there either
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove_leftovers(path: Path) -> None:
    """Make the folder of `path`, and remove what killed processes left there in place of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.????????{_SUFFIX}"):
        with suppress(OSError):  # another process holds or removes it
            descriptor = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            finally:
                os.close(descriptor)


def repository() -> Path:
    """Return the folder in which things last.

    It is this one, unless DVC runs an experiment in a copy of the repository, which it deletes
    afterwards: then DVC_ROOT names the repository that was copied.
    """
    root = os.environ.get("DVC_ROOT")
    if root is None or "DVC_EXP_NAME" not in os.environ:
        return Path()
    here = Path.cwd()
    copy = next((folder for folder in (here, *here.parents) if (folder / ".dvc").is_dir()), here)
    return Path() if copy == Path(root).resolve() else Path(root) / here.relative_to(copy)


def located(path: str | Path) -> Path:
    """Return where a path that a user wrote leads: `~` is the home, others begin here.

    Here is the folder of params.yaml. Of an experiment that DVC runs in a copy of the repository,
    which lacks what git and DVC do not track, what is not there is looked for in the repository.

    Raises:
        PipelineError: there is no such user as `~name`.
    """
    try:
        whole = Path(path).expanduser()
    except RuntimeError as error:
        raise PipelineError(f"{path}: {error}; write the path out") from error
    # A link may be one that only leads DVC to it: beside it lies nothing.
    here = whole.is_absolute() or (whole.exists() and not whole.is_symlink())
    return whole if here else repository() / whole


def modules_digest(modules: Sequence[ModuleType]) -> str:
    """Hash the code of some modules: sha256, hex."""
    code = b"".join(Path(str(module.__file__)).read_bytes() for module in modules)
    return hashlib.sha256(code).hexdigest()


def as_text(path: Path | str) -> str:
    """Return a path as text that can be printed and stored; what is no UTF-8 is spelt out."""
    return os.fsencode(path).decode(errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity are a bug and raise."""
    with atomic_path(path) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON that a stage wrote.

    Raises:
        PipelineError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise missing(path) from error
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, error) from error


def missing(path: Path) -> PipelineError:
    """Make the error for a file that a stage should have written."""
    return PipelineError(f"{path} is missing; run dvc repro to make it")


def damaged(path: Path, how: object) -> PipelineError:
    """Make the error for a file that is not what a stage wrote."""
    return PipelineError(f"{path} is damaged ({how}); delete it and run dvc repro")
