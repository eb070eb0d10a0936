"""Where a training finds and keeps its files: on this machine, or on the nodes of a cluster."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.runtime.ray.cluster import Cluster
from pipeline.runtime.session.checkpoints import LocalCheckpoints, SharedCheckpoints
from pipeline.runtime.session.run_files import LOCAL, RunFiles
from pipeline.runtime.session.run_folder import RunFolder
from pipeline.runtime.storage.job_context import JobContext, current_job
from pipeline.runtime.storage.workspace import Inputs, publish
from pipeline.vision.training.job import Job


@dataclass(frozen=True)
class Place:
    """The files of a training.

    Attributes:
        files: the way of a worker to the driver's run folder.
        checkpoints: where they are kept.
        inputs: the images, where the workers must fetch them.
    """

    files: RunFiles
    checkpoints: LocalCheckpoints | SharedCheckpoints
    inputs: Inputs | None


def place_files(job: Job, folder: RunFolder, cluster: Cluster | None) -> tuple[Place, Job]:
    """Say where the files are, and return the job as the workers get it."""
    within = current_job()
    if cluster is None or within is None:
        return Place(LOCAL, LocalCheckpoints(folder.checkpoints), None), job
    assert cluster.ray.is_initialized()
    from pipeline.runtime.ray.driver_files import DriverFiles

    inputs, job = publish_job(job, within)
    checkpoints = SharedCheckpoints(within.storage, folder.name, folder.checkpoints)
    return Place(DriverFiles(), checkpoints, inputs), job


def publish_job(job: Job, within: JobContext) -> tuple[Inputs, Job]:
    """Store the files that a training reads; return them, and the training relative to them."""
    here = Path.cwd()
    inputs = publish(within.shared, [str(path.relative_to(here)) for path in job.paths])
    return inputs, job.moved(here, Path())
