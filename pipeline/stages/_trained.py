"""What the training stages learn from, for them and for whoever looks back at them."""

from pipeline.params import Training
from pipeline.runtime.tracking.trained import Trained
from pipeline.stages._paths import PACKED, training_folders


def trained(stage: str, recipe: Training) -> Trained:
    """Return the training that a stage does.

    Args:
        stage: 'train' or 'finetune'.
        recipe: its section of params.
    """
    return Trained(stage, recipe, tuple(training_folders(recipe.images)), PACKED / "val")
