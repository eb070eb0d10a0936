"""The first training: from scratch, or from the weights that train.weights names."""

from pipeline.params import Params
from pipeline.runtime.training import train_bundle
from pipeline.stages._paths import BASE, HISTORY, PACKED, training_folders


def run(params: Params) -> None:
    """Write models/base and the learning curve beside the reports."""
    progress = train_bundle(
        params,
        stage="train",
        recipe=params.train,
        images=training_folders(params.train.images),
        validation=PACKED / "val",
        bundle=BASE,
        history=HISTORY / "base.json",
    )
    best = progress.history[progress.best_epoch - 1]
    print(
        f"train: {progress.epochs_done} epochs, best {progress.best_epoch}: validation loss"
        f" {best['val_loss']:.4f}, accuracy {best['val_accuracy']:.3f} -> {BASE}"
    )
