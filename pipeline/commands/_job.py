"""`convoy job`: the driver of a job, which the job server starts on a node."""

from pipeline.errors import PipelineError
from pipeline.runtime.jobs.driver import run as drive
from pipeline.runtime.storage.job_context import current_job


def run() -> None:
    """Run the stage of the job that this process belongs to.

    Raises:
        PipelineError: this process belongs to none, or see `driver.run`.
    """
    job = current_job()
    if job is None:
        raise PipelineError("convoy job is what a cluster runs; type dvc repro or convoy submit")
    drive(job)
