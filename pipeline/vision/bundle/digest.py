"""What identifies a model and a set of parameters. Without torch, so that asking is quick."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError

WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "bundle.json"


def bundle_digest(folder: Path) -> str:
    """Hash both files of a bundle: sha256, hex.

    Raises:
        PipelineError: one of them is missing.
    """
    digest = hashlib.sha256()
    for name in (DESCRIPTION_FILE, WEIGHTS_FILE):
        digest.update(_hashed(folder, name))
    return digest.hexdigest()


def weights_digest(folder: Path) -> str:
    """Hash the weights of a bundle: sha256, hex; the same for other views of the same network.

    Raises:
        PipelineError: they are missing.
    """
    return _hashed(folder, WEIGHTS_FILE).hex()


def _hashed(folder: Path, name: str) -> bytes:
    try:
        with (folder / name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except FileNotFoundError as error:
        raise no_bundle(folder, f"{name} is missing") from error


def values_digest(values: Any) -> str:
    """Hash JSON values: sha256, hex, whatever the order of keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def no_bundle(folder: Path, reason: str) -> PipelineError:
    """Say why `folder` is not a bundle and what would be one."""
    return PipelineError(
        f"{folder} is not a model bundle: {reason}; expected the folder that training wrote,"
        " such as models/final"
    )
