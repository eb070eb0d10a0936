"""The recipes of the trainings: those of params, or those that the stage autotune keeps."""

from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import damaged, read_json
from pipeline.params import MistakesError, Params, parse
from pipeline.params.choices.training import Training
from pipeline.recipes.choice import KEPT


def compute_file(stage: str) -> Path:
    """Return where the stage autotune keeps its choices for 'train' or 'finetune'."""
    return Path("models/compute") / f"{stage}.json"


def given_recipe(params: Params, stage: str) -> Training:
    """Return the section of 'train' or 'finetune'."""
    return {"train": params.train, "finetune": params.finetune}[stage]


def kept_choice(stage: str) -> tuple[Training, dict[str, Any] | None]:
    """Return the recipe that 'train' or 'finetune' was made by, and why; None: by params.

    The record has "name", "reason", and "seconds" that both trainings were expected to take, or
    None.

    Raises:
        PipelineError: the file is missing or damaged.
    """
    file = compute_file(stage)
    match read_json(file):
        case {"plan": None, "recipe": recipe}:
            return _parse(recipe, file), None
        case {"plan": {"name": str(), "reason": str(), "seconds": _} as record, "recipe": recipe}:
            return _parse(recipe, file), record
    raise damaged(file, "it has no recipe, or not why it is that one")


def asked_for(params: Params) -> dict[str, Any]:
    """Return what of params a recipe is chosen by: JSON values."""
    sections = {stage: params.section(stage) for stage in ("train", "finetune")}
    return {
        "recipe": params.section("recipe"),
        "model": params.section("model"),
        "metric": params.evaluate.metric,
        **{
            stage: {key: section[key] for key in KEPT[stage]} for stage, section in sections.items()
        },
    }


def _answers(asked: dict[str, Any], params: Params) -> bool:
    """Whether a choice was made for these params; of which images, its stage knows."""
    return {key: value for key, value in asked.items() if key != "facts"} == asked_for(params)


def recipe_of(params: Params, stage: str) -> Training:
    """Return the recipe of 'train' or 'finetune'.

    Raises:
        PipelineError: it is to be chosen, and for these params it has not been.
    """
    if not params.recipe.made:
        return given_recipe(params, stage)
    file = compute_file(stage)
    match read_json(file) if file.exists() else None:
        case {"plan": {"asked": dict(asked)}, "recipe": recipe} if _answers(asked, params):
            return _parse(recipe, file)
    raise PipelineError(
        f"recipe.name: {params.recipe.name}: {file} holds no recipe for the present params; run"
        " dvc repro, whose stage autotune makes it"
    )


def _parse(recipe: Any, file: Path) -> Training:
    try:
        kept: Training = parse(Training, recipe)
    except MistakesError as error:
        raise PipelineError(
            f"{file}: the recipe does not fit ({'; '.join(error.args)}); delete the file and run"
            " dvc repro to choose again"
        ) from error
    return kept
