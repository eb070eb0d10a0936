"""What the driver hands to each worker."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.runtime.session.checkpoints import Checkpoints
from pipeline.runtime.session.run_files import RunFiles
from pipeline.runtime.session.run_folder import RunFolder
from pipeline.runtime.storage.workspace import Inputs
from pipeline.vision.bundle.arithmetic import Arithmetic


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker needs to know besides the job.

    Attributes:
        folder: of the driver, where events go.
        files: the way to it.
        checkpoints: where they are kept.
        scratch: folder of this machine that all trainings share.
        inputs: the images, where this machine must fetch them; None where it sees them.
        checkpoint_interval_s: between two checkpoints, at least.
        arithmetic: how to compute, where that is possible.
        threads: as in params.yaml.
        cores: that this worker may use.
        gpu: whether it computes on a GPU.
        in_actor: whether Ray runs it in a process of its own, and chooses the GPU.
        loopback: whether several workers are on this machine and meet here.
        samples_system: whether a worker of each node samples its machine.
    """

    folder: RunFolder
    files: RunFiles
    checkpoints: Checkpoints
    scratch: Path
    inputs: Inputs | None
    checkpoint_interval_s: float
    arithmetic: Arithmetic
    threads: int | Literal["auto"]
    cores: int
    gpu: bool
    in_actor: bool
    loopback: bool
    samples_system: bool
