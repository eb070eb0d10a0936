"""Recipe, precision and memory order of the trainings, chosen once and kept.

With recipe.name: custom the recipes are those of params. Else they are made for the images, the
network and the time; a budget needs the pace, which is measured here. Precision and memory order
come from a short trial: both decide how results are rounded, so that they are results themselves.

The files are kept in git, DVC leaves them where they are when the stage runs again (`persist`), and
another machine uses them too. A choice is made again when its file is deleted, or when the question
is another one. A training that cannot compute so on its machine chooses for itself, and leaves the
file.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pipeline.data.shards.shards import ImageSet
from pipeline.files import read_json, write_json
from pipeline.params import Params, Recipe
from pipeline.params.choices.training import Training
from pipeline.recipes import Facts, Pace, plan
from pipeline.recipes.kept import asked_for, compute_file, given_recipe, recipe_of
from pipeline.recipes.mirror import chosen_rows, compare_mirrored
from pipeline.runtime.ray.fit import autotune
from pipeline.stages._paths import PACKED
from pipeline.stages._trained import with_inputs
from pipeline.stages._training import read_choice
from pipeline.vision.training.job import Job
from pipeline.vision.training.make_job import make_trial_job

_STAGES = ("train", "finetune")


def run(params: Params) -> None:
    """Write models/compute/train.json and models/compute/finetune.json."""
    if not params.recipe.made:
        for stage in _STAGES:
            recipe = given_recipe(params, stage)
            _keep(stage, _compute(params, stage, recipe), recipe, None)
        return
    asked = asked_for(params)
    facts, mirror = _facts(params.recipe, asked)
    asked["facts"] = _as_json(asdict(facts))
    if record := _chosen_before(asked):
        for stage in _STAGES:
            recipe = recipe_of(params, stage)
            _keep(stage, _compute(params, stage, recipe), recipe, record)
        print(f"autotune: recipe {record['name']}, as chosen before")
        return
    timed = params.recipe.budget_s is not None
    given = {stage: given_recipe(params, stage) for stage in _STAGES}
    draft = plan(facts, params.recipe, given)
    computed = {
        stage: _compute(params, stage, recipe, timed=timed)
        for stage, recipe in draft.sections.items()
    }
    chosen = draft
    if timed:
        paces = {stage: _pace(values["trial"]["pace"]) for stage, values in computed.items()}
        chosen = plan(facts, params.recipe, given, paces)
    record = {
        "asked": asked,
        "name": chosen.name,
        "reason": f"{chosen.reason}; {mirror}",
        "seconds": chosen.seconds,
    }
    for stage, recipe in chosen.sections.items():
        _keep(stage, computed[stage], recipe, record)
    print(f"autotune: recipe {chosen}; {mirror}")


def _compute(
    params: Params, stage: str, recipe: Training, *, timed: bool = False
) -> dict[str, Any]:
    """Return how a training computes, as before if the question is the same; JSON values."""
    file, inputs = compute_file(stage), with_inputs(stage, recipe)
    job = make_trial_job(
        stage, params.model, recipe, images=inputs.images, validation=inputs.validation
    )
    question = _question(job)
    if file.exists() and not timed:
        answered, arithmetic = read_choice(stage)
        if answered == question:
            print(f"autotune: {stage}: {arithmetic}, as chosen before")
            trial = read_json(file).get("trial")
            return {"question": question, "arithmetic": asdict(arithmetic), "trial": trial}
    arithmetic, trial = autotune(job, params.resources, timed=timed)
    print(f"autotune: {stage}: {arithmetic}: {trial['reason']} -> {file}")
    return {"question": question, "arithmetic": asdict(arithmetic), "trial": trial}


def _keep(
    stage: str, computed: dict[str, Any], recipe: Training, record: dict[str, Any] | None
) -> None:
    """Write the file of a stage, unless it says all that already."""
    file = compute_file(stage)
    values = {**computed, "plan": record, "recipe": recipe.model_dump(mode="json")}
    if not file.exists() or read_json(file) != _as_json(values):
        write_json(file, values)


def _chosen_before(asked: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record of a choice that was made for the same question; None: there is none."""
    records = []
    for stage in _STAGES:
        file = compute_file(stage)
        match read_json(file) if file.exists() else None:
            case {"plan": {"asked": before, "name": str()} as record} if before == asked:
                records.append(record)
    return records[0] if len(records) == len(_STAGES) and records[0] == records[1] else None


def _facts(recipe: Recipe, asked: Mapping[str, Any]) -> tuple[Facts, str]:
    """Return what a recipe is chosen by, and a line on mirrored images."""
    images = ImageSet.open(PACKED / "train")
    height, width, _ = images.info.shape
    mirrored, line = recipe.mirror, f"recipe.mirror is {str(recipe.mirror).lower()}"
    if mirrored == "auto":
        rows = chosen_rows(images.labels)
        found = compare_mirrored(images.gather(rows), images.labels[rows])
        mirrored, line = found.alike, str(found)
    facts = Facts(
        counts=tuple(int(count) for count in images.class_counts()),
        side=min(height, width),
        network=asked["model"]["name"],
        pretrained=asked["train"]["weights"] is not None,
        mirrored=mirrored,
        metric=asked["metric"],
    )
    return facts, line


def _pace(measured: dict[str, float]) -> Pace:
    """Return the pace of a training, with the images of its epochs."""
    return Pace(
        images=len(ImageSet.open(PACKED / "train")),
        validation_images=len(ImageSet.open(PACKED / "val")),
        **measured,
    )


def _as_json(values: Any) -> Any:
    """Return values as they are read from a file."""
    return json.loads(json.dumps(values))


def _question(job: Job) -> dict[str, Any]:
    """Return what precision and memory order are chosen for: JSON values."""
    recipe, preprocessing = job.recipe, job.preprocessing
    return {
        "network": job.network,
        "args": job.args,
        "image": [preprocessing.height, preprocessing.width, preprocessing.channels],
        "global_batch_size": recipe.global_batch_size,
        "accumulate": recipe.accumulate,
        "trainable": recipe.trainable,
        "precision": recipe.precision,
    }
