"""How fast a training runs, measured on its very steps."""

import time
from itertools import count

import torch

from pipeline.vision.training.batches import Share
from pipeline.vision.training.compute_config import ComputeConfig
from pipeline.vision.training.job import Job
from pipeline.vision.training.trial import Trial

_WARM_UP_STEPS = 2
_TIMED_S = 3.0
_FEWEST_STEPS = 3


def measure_pace(
    job: Job, share: Share, device: torch.device, compute: ComputeConfig
) -> dict[str, float]:
    """Measure the mean seconds of a step, with its images' way into it, and of a forward pass.

    Args:
        job: the training.
        share: this worker's; it takes its part of each batch.
        device: that computes.
        compute: how.

    Returns:
        "step_s", seconds of a step; "forward_s", of one image that only goes forward.

    Raises:
        PipelineError: see `Trial.steps`.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        trial = Trial(job, share, device, 1.0)
        steps = trial.steps(compute)
        for _ in range(_WARM_UP_STEPS):
            next(steps)
        begin = time.perf_counter()
        for taken in count(1):
            next(steps)
            spent = time.perf_counter() - begin
            if taken >= _FEWEST_STEPS and spent >= _TIMED_S:
                break
        steps.close()
        return {"step_s": spent / taken, "forward_s": trial.forward_seconds(compute)}
