"""A stage, or the classification of files, within a job: it works on the job's own cluster."""

import importlib
from pathlib import Path, PurePosixPath

from pipeline.params import Params
from pipeline.remote import is_uri
from pipeline.runtime.jobs.stage_files import image_files, stage_files
from pipeline.runtime.ray.spread import spread_over_cluster
from pipeline.runtime.storage.job_context import current_job
from pipeline.runtime.storage.workspace import Inputs, publish

# What travels for the classification of files.
MODEL, LISTING = "predict/model", "predict/files.parquet"


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


def run_predict(params: Params, output: str) -> None:
    """Classify the files that a listing in the current folder names.

    Raises:
        PipelineError: see `classify_listed`.
    """
    from pipeline.vision.application.listed import classify_listed

    job = current_job()
    assert job is not None
    with spread_over_cluster(params.resources, lambda: publish(job.shared, [MODEL, LISTING])):
        classify_listed(Path(MODEL), Path(LISTING), Path(output))


def _seen_by_all(path: str) -> bool:
    """Whether a path of dvc.yaml lies outside of the workspace."""
    return is_uri(path) or PurePosixPath(path).is_absolute()
