"""Precision and memory order of the trainings, chosen by a short trial and kept.

Both decide how results are rounded, so that they are results themselves. Their files are kept in
git, DVC leaves them where they are when the stage runs again (`persist`), and another machine uses
them too. A choice is made again when its file is deleted, or when the question is another one
(network, image size, batch, what is trained, what `precision` asks for). A training that cannot
compute so on its machine chooses for itself, and leaves the file.
"""

from dataclasses import asdict
from typing import Any

from pipeline.files import write_json
from pipeline.params import Params
from pipeline.runtime.ray.fit import autotune
from pipeline.stages._paths import compute_file
from pipeline.stages._trained import planned
from pipeline.stages._training import read_choice
from pipeline.vision.training.job import Job
from pipeline.vision.training.make_job import make_trial_job


def run(params: Params) -> None:
    """Write models/compute/train.json and models/compute/finetune.json."""
    for stage in ("train", "finetune"):
        file, inputs = compute_file(stage), planned(params, stage)
        job = make_trial_job(
            stage,
            params.model,
            inputs.recipe,
            images=inputs.images,
            validation=inputs.validation,
        )
        question = _question(job)
        if file.exists():
            answered, arithmetic = read_choice(stage)
            if answered == question:
                print(f"autotune: {stage}: {arithmetic}, as chosen before")
                continue
        arithmetic, trial = autotune(job, params.resources)
        write_json(file, {"question": question, "arithmetic": asdict(arithmetic), "trial": trial})
        print(f"autotune: {stage}: {arithmetic}: {trial['reason']} -> {file}")


def _question(job: Job) -> dict[str, Any]:
    """Return what a choice is made for: JSON values."""
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
