"""`convoy lr-find`: a learning rate for a stage, from a learning-rate range test."""

from collections.abc import Sequence
from dataclasses import asdict

import torch

from pipeline.errors import PipelineError
from pipeline.evaluation.plots import save
from pipeline.evaluation.plots.lr_range import draw_lr_range
from pipeline.files import write_json
from pipeline.parallel import usable_cores
from pipeline.params import Params, Resources
from pipeline.progress import progress_bar
from pipeline.stages._paths import REPORTS
from pipeline.stages._training import training_job, tuned_arithmetic
from pipeline.vision.inspection.lr_range import (
    Point,
    lowest_point,
    range_test,
    rising_rates,
    suggest,
)
from pipeline.vision.training.autotune import choose_compute
from pipeline.vision.training.batches import Share
from pipeline.vision.training.building import build_trainer
from pipeline.vision.training.job import Job
from pipeline.vision.training.trainer import Trainer

_FOLDER = REPORTS / "lr_find"


def run(params: Params, stage: str, lowest: float, highest: float, steps: int) -> None:
    """Print a suggestion; write the curve as reports/lr_find/<stage>.png and .json.

    Trains in this process and keeps nothing else.

    Args:
        params: all of them.
        stage: 'train' or 'finetune'.
        lowest: the first rate.
        highest: the last rate.
        steps: from the one to the other.

    Raises:
        PipelineError: images or weights are not there or do not fit; or the loss does not fall.
    """
    job = training_job(params, stage)
    trainer = _build(job, params.resources)
    points = []
    with progress_bar(steps, f"lr-find {stage}", "step") as bar:
        for point in range_test(rising_rates(lowest, highest, steps), trainer.step_at):
            points.append(point)
            bar.update()
    found = lowest_point(points, steps)
    if points:
        _write(stage, job, points, suggest(found) if found else None)
    if found is None:
        end = points[-1].rate if points else lowest
        raise PipelineError(
            f"lr-find: the loss does not fall clearly between the rates {lowest:g} and {end:g}"
            f" ({_FOLDER / stage}.png); take more --steps, or a lower --lowest"
        )
    now = job.recipe.optimizer.lr
    print(
        f"{stage}.optimizer.lr: {suggest(found):.1g}   (params.yaml has {now:g};"
        f" the loss is lowest at {found.rate:.1g})"
    )
    if found is points[-1]:
        print(f"the loss still falls at {highest:g}: a higher --highest may show more")
    print(f"curve: {_FOLDER / stage}.png")


def _build(job: Job, resources: Resources) -> Trainer:
    """Build a trainer that computes as the stage's only worker would."""
    gpu = torch.cuda.is_available() and resources.gpus_per_worker != 0
    device = torch.device("cuda" if gpu else "cpu")
    compute, _ = choose_compute(
        job,
        Share(),
        device,
        threads=resources.threads,
        most_threads=resources.cpus_per_worker or usable_cores(),
        known=tuned_arithmetic(job.stage),
    )
    torch.set_num_threads(compute.threads)
    return build_trainer(job, Share(), device, compute)


def _write(stage: str, job: Job, points: Sequence[Point], suggestion: float | None) -> None:
    """Write the picture and the points."""
    figure = draw_lr_range(
        [point.rate for point in points],
        [point.loss for point in points],
        [point.smoothed for point in points],
        suggestion,
        f"{stage}: {job.network}, {job.recipe.optimizer.name}",
    )
    save(figure, _FOLDER / f"{stage}.png")
    values = {"suggestion": suggestion, "points": [asdict(point) for point in points]}
    write_json(_FOLDER / f"{stage}.json", values)
