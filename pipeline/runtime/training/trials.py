"""Short trainings that are compared and forgotten."""

import shutil
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from pipeline.params import Params
from pipeline.runtime.ray.fit import fit
from pipeline.runtime.session.interrupts import sigterm_interrupts
from pipeline.runtime.session.run_folder import RunFolder
from pipeline.runtime.storage.job_context import current_job
from pipeline.runtime.training.progress_bar import ProgressBar
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.training.job import Job
from pipeline.vision.training.training_state import EpochProgress, Record, read_training_state
from pipeline.vision.training.versions import code_digest, library_versions


def run_trials(
    params: Params, jobs: Mapping[str, Job], arithmetic: Arithmetic
) -> dict[str, list[Record]]:
    """Train each job to its end where a training runs, and keep the figures alone.

    A call that was killed goes on where it was. No trial has an MLflow run.

    Args:
        params: resources.
        jobs: by name.
        arithmetic: how to compute, where that is possible.

    Returns:
        The records of the epochs of each, without the speed: the same on any machine.

    Raises:
        PipelineError: see `fit`.
    """
    histories, folders = {}, []
    with sigterm_interrupts():
        for name, job in jobs.items():
            identity = job.identity(arithmetic, library_versions(), code_digest())
            storage = Path(params.resources.runs).resolve()
            folder = RunFolder(storage, f"start-{identity[:16]}")
            with closing(
                ProgressBar(f"start: {name}", job.recipe.epochs, len(job.training_set))
            ) as bar:
                checkpoint, _ = fit(job, arithmetic, params.resources, folder, _Shown(bar))
            state = read_training_state(checkpoint)
            histories[name] = [
                {key: value for key, value in record.items() if key != "images_per_s"}
                for record in state.history
            ]
            folders.append(folder)
    if not current_job():  # whose driver does it when the outs are stored
        for folder in folders:
            shutil.rmtree(folder.path, ignore_errors=True)
    return histories


class _Shown:
    """Shows a trial on the console."""

    wants_system_metrics = False

    def __init__(self, bar: ProgressBar) -> None:
        self._bar = bar

    def begin(self, logs: Path | None) -> None:
        """Say that processes are started, if any are."""
        if logs is not None:
            self._bar.line("workers are starting")

    def compute(self, arithmetic: Arithmetic, text: str) -> None:  # noqa: ARG002
        """Show how the workers compute."""
        self._bar.line(text)

    def fact(self, name: str, text: str) -> None:  # noqa: ARG002
        """Show it."""
        self._bar.line(text)

    def record(self, record: Record) -> None:
        """Show an epoch."""
        self._bar.record(record)

    def epoch_progress(self, epoch_progress: EpochProgress) -> None:
        """Show how far the running epoch is."""
        self._bar.epoch_progress(epoch_progress)

    def system_metrics(
        self, node: str, number: int, time_ms: int, values: Mapping[str, float]
    ) -> None:
        """Nobody has asked for them."""
