"""Bringing the images up to date, where DVC brings them."""

from collections.abc import Callable
from pathlib import Path

import yaml

from pipeline.errors import PipelineError
from pipeline.remote import is_uri

# Runs a command of DVC's; returns its exit code and what it printed.
Dvc = Callable[..., tuple[int, str]]


def update_images(root: str, dvc: Dvc) -> str | None:
    """Fetch the images' latest state, where `data.root` is imported or tracked by DVC.

    What `dvc import` and `dvc import-url` brought is updated; what `dvc add` tracks is pulled, if
    it was not changed here and there is a remote.

    Args:
        root: data.root.
        dvc: runs a command.

    Returns:
        What was done, in words; None where DVC has no part in it.

    Raises:
        PipelineError: the update failed.
    """
    file = Path(f"{root.rstrip('/')}.dvc")
    if is_uri(root) or not file.is_file():
        return None
    try:
        described = yaml.safe_load(file.read_text(encoding="utf-8"))
        imported = bool(described.get("deps"))
    except (OSError, yaml.YAMLError, AttributeError, UnicodeDecodeError) as error:
        raise PipelineError(f"{file} is no file of DVC's ({error}); restore it") from error
    if imported:
        _checked(dvc, "update", str(file))
        return f"dvc update {file}"
    code, remotes = dvc("remote", "list")
    if code or not remotes.strip():
        return None
    code, _ = dvc("status", "-q", str(file))
    if code and Path(root).exists():
        return f"{root} differs from {file}, and is taken as it is"
    _checked(dvc, "pull", str(file))
    return f"dvc pull {file}"


def _checked(dvc: Dvc, *words: str) -> None:
    code, said = dvc(*words)
    if code:
        lines = [line for line in said.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
        raise PipelineError(f"dvc {' '.join(words)} failed: {' '.join(errors) or code}")
