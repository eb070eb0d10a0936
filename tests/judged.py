"""A trained model with a short history, as the registry stage finds it."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.files import write_json
from pipeline.params import Params, Tracking
from pipeline.runtime.tracking.trained import Result, Trained

ARITHMETIC = {"precision": "fp32", "memory_format": "channels_last"}
HISTORY = [
    {"epoch": 1, "lr": 0.1, "train_loss": 1.0, "val_loss": 0.9, "val_accuracy": 0.5}
    | {"kept": False, **ARITHMETIC},
    {"epoch": 2, "lr": 0.05, "train_loss": 0.5, "val_loss": 0.6, "val_accuracy": 0.75}
    | {"kept": True, **ARITHMETIC},
]


def judged(
    params: Params,
    tracking: Tracking,
    bundle: Path,
    images: Path,
    metrics: Mapping[str, float],
    files: Mapping[str, Path],
) -> Result:
    """Return what is known of a bundle that was trained and validated on `images`."""
    history = bundle.parent / f"{bundle.name}-history.json"
    write_json(history, HISTORY)
    return Result(
        params=params.model_copy(update={"tracking": tracking}),
        trained=Trained("finetune", params.finetune, (images,), images),
        history=history,
        bundle=bundle,
        metrics=metrics,
        files=files,
    )
