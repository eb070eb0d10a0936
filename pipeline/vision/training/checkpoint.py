"""A checkpoint as a folder that shows whether it is whole.

Its manifest, written last, holds the digest of every other file: a folder that a crash left
half written, or a disk that lost a block, is noticed before anything is restored from it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.files import atomic_path

if TYPE_CHECKING:  # to check that a checkpoint is whole takes no torch
    from torch import Tensor

BEST_FILE = "best.safetensors"
_TENSORS_FILE = "state.safetensors"
_VALUES_FILE = "training_state.json"
MANIFEST_FILE = "manifest.json"


def write_checkpoint(
    folder: Path,
    tensors: "Mapping[str, Mapping[str, Tensor]]",
    best: "Mapping[str, Tensor]",
    values: Mapping[str, Any],
) -> None:
    """Write a checkpoint.

    Args:
        folder: made if need be.
        tensors: named groups of named tensors.
        best: the best weights so far, a file of their own that any safetensors reader opens.
        values: JSON values.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    flat = {f"{group}/{key}": value for group in tensors for key, value in tensors[group].items()}
    save_file({name: plain(tensor) for name, tensor in flat.items()}, folder / _TENSORS_FILE)
    save_file(dict(best), folder / BEST_FILE)
    (folder / _VALUES_FILE).write_text(json.dumps(values))
    digests = {name: _digest(folder / name) for name in (_TENSORS_FILE, BEST_FILE, _VALUES_FILE)}
    with atomic_path(folder / MANIFEST_FILE) as manifest:
        manifest.write_text(json.dumps(digests))


def plain(tensor: "Tensor") -> "Tensor":
    """Copy a tensor to the CPU, in contiguous memory of its own."""
    return tensor.detach().cpu().contiguous().clone()


def read_tensors(folder: Path) -> "dict[str, dict[str, Tensor]]":
    """Read the groups of tensors."""
    from safetensors.torch import load_file

    tensors: dict[str, dict[str, Tensor]] = {}
    for name, tensor in load_file(folder / _TENSORS_FILE).items():
        group, _, rest = name.partition("/")
        tensors.setdefault(group, {})[rest] = tensor
    return tensors


def read_best(folder: Path) -> "dict[str, Tensor]":
    """Read the best weights."""
    from safetensors.torch import load_file

    best: dict[str, Tensor] = load_file(folder / BEST_FILE)
    return best


def read_values(folder: Path) -> dict[str, Any]:
    """Read the JSON values."""
    values: dict[str, Any] = json.loads((folder / _VALUES_FILE).read_text())
    return values


def is_whole(folder: Path) -> bool:
    """Whether every file is there as it was written."""
    try:
        digests = json.loads((folder / MANIFEST_FILE).read_text())
        return all(_digest(folder / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, AttributeError):
        return False


def first_whole(folders: Iterable[Path]) -> Path | None:
    """Return the first of `folders` that is whole."""
    return next((folder for folder in folders if is_whole(folder)), None)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
