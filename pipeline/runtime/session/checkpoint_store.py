"""The checkpoints of one training: newest whole one first, the two newest kept.

Ray Train could keep them too. But it lists them in a file that it rewrites in place: killed in
that moment, it leaves half a file, and refuses to start again, as it does when a listed checkpoint
is gone. Here the folders themselves are the list, and each can tell whether it is whole.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import PipelineError
from pipeline.files import fresh_folder
from pipeline.vision.training.checkpoint import first_whole
from pipeline.vision.training.training_state import TrainingState

if TYPE_CHECKING:  # the driver, which only looks for checkpoints, needs no torch
    from pipeline.vision.training.trainer import Trainer

# The newest one, and one in case its disk loses a block.
_KEPT = 2


def checkpoints(folder: Path) -> list[Path]:
    """Return all checkpoints in `folder`, whole or not, newest first."""
    return sorted(folder.glob("[0-9]*"), reverse=True)


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that is whole, None if there is none."""
    return first_whole(checkpoints(folder))


def save_checkpoint(trainer: "Trainer", folder: Path) -> Path:
    """Write a checkpoint, which appears only when it is whole, and drop old ones.

    Raises:
        PipelineError: a loss is not finite, or the disk is full, say; nothing is written.
    """
    from safetensors import SafetensorError

    path = folder / _name(trainer.state)
    try:
        with fresh_folder(path) as new:
            trainer.save(new)
    except (OSError, SafetensorError) as error:
        raise PipelineError(
            f"the checkpoint {path} cannot be written: {error}; free space there, or set"
            " resources.storage to another folder"
        ) from error
    for old in checkpoints(folder)[_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def go_back_to(checkpoint: Path | None, folder: Path) -> None:
    """Remove what is newer than `checkpoint` and damaged, and what a crash left half written."""
    for path in folder.glob("*"):
        if path.name.startswith(".") or checkpoint is None or path.name > checkpoint.name:
            shutil.rmtree(path, ignore_errors=True)


def _name(state: TrainingState) -> str:
    """Name a moment of a training so that names sort as the moments do."""
    return f"{state.epochs_done:06d}-{state.steps_done:09d}"
