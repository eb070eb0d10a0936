"""Jobs on small packed sets, for tests of what trains."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.params import load_params, parse
from pipeline.params.choices.networks import AnyModel
from pipeline.params.choices.training import Training
from pipeline.vision.training.job import Job
from pipeline.vision.training.make_job import InitialWeights, make_job

# That of the sample, without what draws at random in each step.
RECIPE = load_params(Path(__file__).parents[1] / "params.yaml").train.model_copy(
    update={"augment": ()}
)


def job_on(
    sets: Sequence[Path], recipe: Training = RECIPE, network: str = "lenet5", **changes: Any
) -> Job:
    """Return a job on the folders of a training and a validation set, normalised by round numbers.

    Args:
        sets: the two folders.
        recipe: how to train.
        network: its name.
        changes: to the job.
    """
    model = parse(AnyModel, {"name": network, "args": {}})
    job = make_job(
        "train", model, recipe, images=[sets[0]], validation=sets[1], initial=InitialWeights()
    )
    return replace(job, **{"mean": (0.2,), "std": (0.3,), **changes})
