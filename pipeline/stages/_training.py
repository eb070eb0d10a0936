"""What the stages train and finetune share."""

from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import missing, read_json
from pipeline.params import Params
from pipeline.recipes.kept import compute_file
from pipeline.runtime.tracking.store import check_address, tracking_uri
from pipeline.runtime.training.initial_weights import find_initial_weights
from pipeline.runtime.training.run import run_training
from pipeline.stages._paths import HISTORY, MODELS
from pipeline.stages._trained import planned, trained
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.training.job import Job
from pipeline.vision.training.make_job import make_job


def train_stage(params: Params, stage: str, name: str) -> None:
    """Train models/`name` and write its learning curve beside the reports.

    Args:
        params: all of them.
        stage: 'train' or 'finetune'.
        name: of the bundle.
    """
    bundle = MODELS / name
    check_address(tracking_uri(params.tracking))
    state = run_training(
        params,
        training_job(params, stage),
        trained(params, stage),
        tuned_arithmetic(stage),
        bundle=bundle,
        history=HISTORY / f"{name}.json",
    )
    if state is None:
        return
    best = state.history[state.best_epoch - 1]
    print(
        f"{stage}: {state.epochs_done} epochs, best {state.best_epoch}: validation loss"
        f" {best['val_loss']:.4f}, accuracy {best['val_accuracy']:.3f} -> {bundle}"
    )


def training_job(params: Params, stage: str) -> Job:
    """Return what a stage trains.

    Raises:
        PipelineError: images or weights that are not there, or do not fit.
    """
    inputs = trained(params, stage)
    # Those of a warm start come with the stage's inputs.
    named = inputs.recipe.weights == planned(params, stage).recipe.weights
    for folder in (*inputs.images, inputs.validation):  # before weights, which come from them
        if not folder.is_dir():
            raise missing(folder)
    return make_job(
        stage,
        params.model,
        inputs.recipe,
        images=inputs.images,
        validation=inputs.validation,
        initial=find_initial_weights(params, inputs.recipe, stage if named else ""),
    )


def tuned_arithmetic(stage: str) -> Arithmetic:
    """Return what the stage autotune has chosen.

    Raises:
        PipelineError: see `read_choice`.
    """
    return read_choice(stage)[1]


def read_choice(stage: str) -> tuple[dict[str, Any], Arithmetic]:
    """Return what the stage autotune has chosen for, and what it has chosen.

    Raises:
        PipelineError: its file is missing or damaged.
    """
    file = compute_file(stage)
    try:
        return _parse_choice(read_json(file))
    except ValueError as error:
        raise PipelineError(
            f"{file} does not hold a choice of the stage autotune ({error}); delete it and run dvc"
            " repro to choose again"
        ) from error


def _parse_choice(values: Any) -> tuple[dict[str, Any], Arithmetic]:
    match values:
        case {"question": {"precision": asked} as question, "arithmetic": chosen}:
            arithmetic = Arithmetic.of(chosen)
        case _:
            raise ValueError("need the keys question, with precision in it, and arithmetic")
    if asked not in ("auto", arithmetic.precision):
        raise ValueError(f"precision: got {arithmetic.precision}, its question asks for {asked}")
    return question, arithmetic
