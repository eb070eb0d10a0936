"""What the driver hands to each worker."""

import gc
from dataclasses import dataclass
from typing import Literal

from pipeline.runtime.session.run_folder import RunFolder
from pipeline.vision.training.job import Job


@dataclass(frozen=True)
class WorkerConfig:
    """All that a worker needs to know.

    Attributes:
        job: what to train.
        folder: where checkpoints and news go.
        checkpoint_interval_s: between two checkpoints, at least.
        threads: as in params.yaml.
        cores: that this worker may use.
        loopback: whether all workers are on this machine and meet here.
        samples_load: whether a worker of each node watches its machine.
    """

    job: Job
    folder: RunFolder
    checkpoint_interval_s: float
    threads: int | Literal["auto"]
    cores: int
    loopback: bool
    samples_load: bool


def run_worker(order: WorkerConfig) -> dict[str, str]:
    """Run in each worker, see `worker.train`."""
    # As in __main__: imports make objects and no garbage. The first step comes 0.8 s sooner.
    gc.set_threshold(100_000, 50, 50)
    # Not sooner: the driver, which imports this module too, starts 3 s earlier without torch.
    from pipeline.runtime.ray.worker import train

    return train(order)
