"""What the training stages learn from, and what they start from."""

from dataclasses import dataclass

from pipeline.files import damaged, read_json
from pipeline.params import Params
from pipeline.params.choices.training import Training
from pipeline.recipes.kept import recipe_of
from pipeline.runtime.tracking.trained import Trained
from pipeline.stages._paths import CHAMPION_FILE, PACKED, START, START_BUNDLE, training_folders


@dataclass(frozen=True)
class Started:
    """The champion that a warm start begins from.

    Attributes:
        name: of the registered model.
        version: its number, as text.
        bundle: digest of its bundle: sha256, hex.
    """

    name: str
    version: str
    bundle: str

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


def trained(params: Params, stage: str) -> Trained:
    """Return the training of a stage, 'train' or 'finetune', with the start that was chosen for it.

    Raises:
        PipelineError: a start is to be chosen, and the stage start has not done so.
    """
    training = planned(params, stage)
    if stage != "train" or (params.start.mode == "cold" and not START.exists()):
        return training
    started = read_start()
    if started is None:
        return training
    recipe = training.recipe.model_copy(update={"weights": str(START_BUNDLE)})
    return Trained(
        stage, recipe, training.images, training.validation, {"convoy.start": f"warm, {started}"}
    )


def planned(params: Params, stage: str) -> Trained:
    """Return the training of a stage, 'train' or 'finetune', and its inputs.

    Raises:
        PipelineError: see `recipe_of`.
    """
    return with_inputs(stage, recipe_of(params, stage))


def with_inputs(stage: str, recipe: Training) -> Trained:
    """Return a training by a recipe, and its inputs."""
    return Trained(stage, recipe, tuple(training_folders(recipe.images)), PACKED / "val")


def read_start() -> Started | None:
    """Return the champion that the stage start has chosen to begin from; None: a cold start.

    Raises:
        PipelineError: it has not chosen, or its file is damaged.
    """
    match read_json(START / CHAMPION_FILE):
        case None:
            return None
        case {"name": str(name), "version": str(version), "bundle": str(bundle)}:
            return Started(name, version, bundle)
    raise damaged(START, f"{CHAMPION_FILE} has neither null nor name, version and bundle")
