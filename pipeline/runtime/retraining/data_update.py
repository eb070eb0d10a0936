"""Bringing the images up to date, where DVC brings them."""

import json
from pathlib import Path
from typing import Protocol

import yaml

from pipeline.errors import PipelineError
from pipeline.files import atomic_path
from pipeline.remote import is_uri

_COMMITS = 20  # of the images' .dvc file in which an earlier state is looked for


class Commands(Protocol):
    """Runs commands; each returns its exit code and what it printed."""

    def dvc(self, *words: str) -> tuple[int, str]:
        """Run DVC."""

    def git(self, *words: str) -> tuple[int, str]:
        """Run git."""


def update_command(root: str) -> tuple[str, ...]:
    """Return what DVC is asked to do to bring the images; nothing where it has no part in them.

    Args:
        root: data.root.

    Raises:
        PipelineError: the images' .dvc file is damaged.
    """
    file = _dvc_file(root)
    if file is None:
        return ()
    try:
        imported = bool(yaml.safe_load(file.read_text(encoding="utf-8")).get("deps"))
    except (OSError, yaml.YAMLError, AttributeError, UnicodeDecodeError) as error:
        raise PipelineError(f"{file} is no file of DVC's ({error}); restore it") from error
    return ("update" if imported else "pull", str(file))


def update_images(root: str, commands: Commands, seen: Path) -> str | None:
    """Fetch the images' latest state, where `data.root` is imported or tracked by DVC.

    What `dvc import` and `dvc import-url` brought is updated. What `dvc add` tracks is pulled, if
    there is a remote, and the folder is as an earlier commit of its .dvc file has it: then somebody
    else has added images. A folder that was changed here is left.

    Args:
        root: data.root.
        commands: DVC and git.
        seen: copy of the .dvc file that the call before left.

    Returns:
        What was done, in words; None where DVC has no part in it.

    Raises:
        PipelineError: the update failed, or folder and .dvc file have both changed.
    """
    words, file = update_command(root), _dvc_file(root)
    if file is None:
        return None
    done: str | None = f"dvc {' '.join(words)}"
    if words[0] == "update":
        _checked(commands, *words)
    else:
        code, remotes = commands.dvc("remote", "list")
        if code or not remotes.strip():
            done = None
        elif _is_changed(root, file, commands, seen):
            done = f"{root} differs from {file}, and is taken as it is"
        else:
            _checked(commands, *words)
    seen.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(seen) as temporary:
        temporary.write_bytes(file.read_bytes())
    return done


def _dvc_file(root: str) -> Path | None:
    file = Path(f"{root.rstrip('/')}.dvc")
    return None if is_uri(root) or not file.is_file() else file


def _is_changed(root: str, file: Path, commands: Commands, seen: Path) -> bool:
    """Whether the folder was changed here, so that DVC must not replace it."""
    code, _ = commands.dvc("status", "-q", str(file))
    if not code or not Path(root).exists():
        return False
    code, commits = commands.git("log", f"--max-count={_COMMITS}", "--format=%H", "--", str(file))
    for commit in commits.split() if not code else ():
        code, said = commands.dvc("diff", "--json", f"--targets={root}", commit)
        if not code and _is_empty(said):
            return False
    if seen.exists() and seen.read_bytes() != file.read_bytes():
        raise PipelineError(
            f"{root} and {file} have both changed since the call before, and to take the one would"
            f" lose the other; dvc add {root} takes the folder, dvc checkout --force {file} what"
            " the file says"
        )
    return True


def _is_empty(said: str) -> bool:
    """Whether `dvc diff --json` has found no difference."""
    try:
        return not any(json.loads(said or "{}").values())
    except (ValueError, AttributeError):
        return False


def _checked(commands: Commands, *words: str) -> None:
    code, said = commands.dvc(*words)
    if code:
        lines = [line for line in said.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
        raise PipelineError(f"dvc {' '.join(words)} failed: {' '.join(errors) or code}")
