"""What the two training stages share."""

from pipeline.params import Params, Training
from pipeline.runtime.tracking.store import check_address, tracking_uri
from pipeline.runtime.training.run import train_bundle
from pipeline.stages._paths import HISTORY, MODELS
from pipeline.stages._trained import trained


def train_stage(params: Params, *, stage: str, recipe: Training, name: str) -> None:
    """Train models/`name` and write its learning curve beside the reports.

    Args:
        params: all of them.
        stage: what the console and MLflow call the training.
        recipe: how to train.
        name: of the bundle.
    """
    bundle = MODELS / name
    check_address(tracking_uri(params.tracking))
    progress = train_bundle(
        params, trained(stage, recipe), bundle=bundle, history=HISTORY / f"{name}.json"
    )
    best = progress.history[progress.best_epoch - 1]
    print(
        f"{stage}: {progress.epochs_done} epochs, best {progress.best_epoch}: validation loss"
        f" {best['val_loss']:.4f}, accuracy {best['val_accuracy']:.3f} -> {bundle}"
    )
