"""What the training starts from: the champion's weights (warm), or those of train.weights (cold).

The champion lies outside of the repository, and every promotion makes another one. So that of the
day is kept with the choice. A later one is taken only when the question is another one: other
images or another network; where both starts are tried, also another recipe. DVC leaves the outs
where they are when the stage runs again (`persist`).
"""

import shutil
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pipeline.errors import PipelineError
from pipeline.files import damaged, fresh_folder, read_json, write_json
from pipeline.params import Params
from pipeline.params.choices.training import Training
from pipeline.progress import command_clock
from pipeline.stages._paths import CHAMPION_FILE, START, START_BUNDLE, START_REPORT
from pipeline.stages._trained import Started, planned, read_start
from pipeline.vision.bundle.digest import bundle_digest

if TYPE_CHECKING:  # a cold start needs no more than params
    from pipeline.runtime.training.champion import Champion


def run(params: Params) -> None:
    """Write models/start, with the champion's bundle or without one, and reports/start.json."""
    with command_clock("start"):
        question = _question(params)
        if question == _answered():
            print(f"start: {_describe(read_start())}, as chosen before")
            return
        found, reason = (
            (None, "start.mode is cold") if params.start.mode == "cold" else _find(params)
        )
    trials: dict[str, Any] = {}
    if found and params.start.mode == "auto":
        trials = _try_both(params, found)
        metric = planned(params, "train").recipe.early_stopping.metric
        found, reason = _choose(trials, metric, found)
    _write(question, found, reason, trials)
    print(f"start: {_describe(read_start())}: {reason}")


def _describe(champion: Started | None) -> str:
    return f"warm, from {champion}" if champion else "cold"


def _question(params: Params) -> dict[str, Any]:
    """Return what a choice is made for: JSON values."""
    mode = params.start.mode
    if mode == "cold":
        return {"mode": mode}
    from pipeline.data.shards.statistics import images_digest

    inputs = planned(params, "train")
    registered = params.section("register")
    question: dict[str, Any] = {
        "mode": mode,
        "champion": [registered["name"], registered["alias"]],
        "images": images_digest(inputs.images),
        "validation": images_digest([inputs.validation]),
        "model": params.section("model"),
    }
    if mode == "auto":
        question |= {"epochs": params.start.epochs, "train": inputs.recipe.model_dump(mode="json")}
    return question


def _answered() -> Any:
    """Return the question of the choice that is kept, None if there is none.

    Raises:
        PipelineError: a part of what is kept is damaged.
    """
    if not (START_REPORT.exists() and START.exists()):
        return None
    match read_json(START_REPORT):
        case {"question": question}:
            champion = read_start()
        case _:
            raise damaged(START_REPORT, "need the key question, with what the choice was made for")
    if champion and bundle_digest(START_BUNDLE) != champion.bundle:
        raise damaged(START, f"{START_BUNDLE.name} is not that of {champion}")
    return question


def _find(params: Params) -> "tuple[Champion | None, str]":
    """Return the champion if the training can start from it, and the reason if not.

    Raises:
        PipelineError: see `find_champion`; or the start must be warm and cannot be.
    """
    from pipeline.data.shards.shards import ImageSet
    from pipeline.runtime.training.champion import find_champion, misfit

    champion = find_champion(params)
    if champion is None:
        return None, "there is no champion yet"
    shape = ImageSet.open(*planned(params, "train").images).info.shape
    why_not = misfit(champion, params, shape)
    if why_not is None:
        return champion, "start.mode is warm"
    if params.start.mode == "warm":
        raise PipelineError(
            f"start.mode is warm, but {why_not}; set start.mode to cold or auto, or take back what"
            " was changed"
        )
    return None, why_not


def _try_both(params: Params, champion: "Champion") -> dict[str, Any]:
    """Return the records of a short training from each of both starts.

    Raises:
        PipelineError: see `run_trials`.
    """
    from pipeline.runtime.training.initial_weights import find_initial_weights
    from pipeline.runtime.training.trials import run_trials
    from pipeline.stages._training import tuned_arithmetic
    from pipeline.vision.training.make_job import make_job

    inputs, epochs = planned(params, "train"), params.start.epochs
    cold = _shortened(inputs.recipe, epochs)
    warm = cold.model_copy(update={"weights": str(champion.weights)})
    begins = {
        "cold": (cold, find_initial_weights(params, cold, "train")),
        "warm": (warm, find_initial_weights(params, warm)),
    }
    jobs = {
        name: make_job(
            "train",
            params.model,
            recipe,
            images=inputs.images,
            validation=inputs.validation,
            initial=initial,
        )
        for name, (recipe, initial) in begins.items()
    }
    return run_trials(params, jobs, tuned_arithmetic("train"))


def _shortened(recipe: Training, epochs: int) -> Training:
    """Return a recipe of so many epochs, without early stopping."""
    schedule = recipe.schedule
    if hasattr(schedule, "warmup_epochs"):
        warmup = min(schedule.warmup_epochs, epochs)
        schedule = schedule.model_copy(update={"warmup_epochs": warmup})
    stopping = recipe.early_stopping.model_copy(update={"patience": epochs})
    return recipe.model_copy(
        update={"epochs": epochs, "schedule": schedule, "early_stopping": stopping}
    )


def _choose(
    trials: dict[str, Any], metric: str, champion: "Champion"
) -> "tuple[Champion | None, str]":
    """Choose by the last epochs' metric on validation, of equals by the lower loss."""
    key = f"val_{metric}"
    last = {name: records[-1] for name, records in trials.items()}
    score = {
        name: (-record[key] if metric == "loss" else record[key], -record["val_loss"])
        for name, record in last.items()
    }
    figures = ", ".join(
        f"{name} {record[key]:.4f} (loss {record['val_loss']:.4f})" for name, record in last.items()
    )
    reason = f"{metric} on validation after {len(trials['cold'])} epochs: {figures}"
    return (champion if score["warm"] > score["cold"] else None), reason


def _write(
    question: dict[str, Any], champion: "Champion | None", reason: str, trials: dict[str, Any]
) -> None:
    """Write both outs; the report, which says that they are whole, is the last."""
    START_REPORT.unlink(missing_ok=True)
    started = champion and asdict(Started(champion.name, champion.version, champion.digest))
    with fresh_folder(START) as new:
        write_json(new / CHAMPION_FILE, started)
        if champion:
            shutil.copytree(champion.weights, new / START_BUNDLE.name)
    choice = "warm" if champion else "cold"
    report = {"question": question, "choice": choice, "reason": reason, "champion": started}
    write_json(START_REPORT, report | {"trials": trials})
