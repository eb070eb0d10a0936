"""A stage within a job: it trains and works on the cluster that the job belongs to."""

import importlib
from pathlib import PurePosixPath

from pipeline.params import Params
from pipeline.runtime.jobs.stage_files import image_files, stage_files
from pipeline.runtime.ray.spread import spread_over_cluster
from pipeline.runtime.storage.job_context import current_job
from pipeline.runtime.storage.workspace import Inputs, publish


def run_stage(stage: str, params: Params) -> None:
    """Run a stage in the current folder; work that it spreads finds the stage's inputs there.

    Raises:
        PipelineError: as the stage.
    """
    job = current_job()
    assert job is not None

    def inputs() -> Inputs:
        paths = {*stage_files(stage, params).inputs}
        if stage in ("index", "pack"):
            paths.update(image_files(params.data.root))  # pack knows them by the index alone
        return publish(job.shared, [path for path in paths if not _seen_by_all(path)])

    with spread_over_cluster(params.resources, inputs):
        importlib.import_module(f"pipeline.stages.{stage}").run(params)


def _seen_by_all(path: str) -> bool:
    """Whether a path of dvc.yaml lies outside of the workspace."""
    return "://" in path or PurePosixPath(path).is_absolute()
