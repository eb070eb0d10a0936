"""What the training stages learn from."""

from pipeline.params import Params
from pipeline.params.choices.training import Training
from pipeline.runtime.tracking.trained import Trained
from pipeline.stages._paths import PACKED, training_folders


def trained(params: Params, stage: str) -> Trained:
    """Return the training of a stage, 'train' or 'finetune', and its inputs."""
    recipes: dict[str, Training] = {"train": params.train, "finetune": params.finetune}
    recipe = recipes[stage]
    return Trained(stage, recipe, tuple(training_folders(recipe.images)), PACKED / "val")
