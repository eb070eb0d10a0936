"""A stage within a job: it trains and works on the cluster that the job belongs to."""

import importlib

from pipeline.params import Params
from pipeline.runtime.jobs.stage_files import stage_files
from pipeline.runtime.ray.spread import spread_over_cluster
from pipeline.runtime.storage.job_context import JobContext
from pipeline.runtime.storage.workspace import Inputs, publish


def run_stage(job: JobContext, stage: str, params: Params) -> None:
    """Run a stage in the current folder; work that it spreads finds the stage's inputs there.

    Raises:
        PipelineError: as the stage.
    """

    def inputs() -> Inputs:
        return publish(job.shared, stage_files(stage, params).inputs)

    with spread_over_cluster(params.resources, inputs):
        importlib.import_module(f"pipeline.stages.{stage}").run(params)
