"""Fine-tuning: go on from models/base, by default on balanced data at a lower rate."""

from pipeline.params import Params
from pipeline.runtime.training import train_bundle
from pipeline.stages._paths import HISTORY, PACKED, TUNED, training_folders


def run(params: Params) -> None:
    """Write models/tuned and the learning curve beside the reports."""
    progress = train_bundle(
        params,
        stage="finetune",
        recipe=params.finetune,
        images=training_folders(params.finetune.images),
        validation=PACKED / "val",
        bundle=TUNED,
        history=HISTORY / "tuned.json",
    )
    best = progress.history[progress.best_epoch - 1]
    print(
        f"finetune: {progress.epochs_done} epochs, best {progress.best_epoch}: validation loss"
        f" {best['val_loss']:.4f}, accuracy {best['val_accuracy']:.3f} -> {TUNED}"
    )
