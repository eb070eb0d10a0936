"""The driver of a job, on a node of the cluster: inputs in, one stage, outs back."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from pipeline.errors import MISTAKE, PipelineError
from pipeline.params import load_params
from pipeline.remote import AwayError
from pipeline.runtime.jobs.inside import run_predict, run_stage
from pipeline.runtime.jobs.spec import JobSpec, latest_attempt, save_failure, save_result
from pipeline.runtime.jobs.stage_files import DVC_LOCK
from pipeline.runtime.storage.job_context import JobContext, placed
from pipeline.runtime.storage.node_cache import DamagedError, NodeCache
from pipeline.runtime.storage.trees import DigestCache, Tree, snapshot
from pipeline.runtime.storage.workspace import load_tree

# Exit codes beside 2, for a mistake that another attempt would meet again.
REPEAT = 75  # as sysexits.h has it: a passing failure
_COMPLETE = ".convoy/complete"  # in a workspace that has all that it begins with
_PASSING = (DamagedError, AwayError)
JOURNALS = Path(".convoy/journal")  # records of runs that wait for their store


def run(job: JobContext) -> None:
    """Run the stage of a job, and store what it wrote.

    Raises:
        PipelineError: a mistake that another attempt would meet again; it is stored, too.
    """
    cache, package = NodeCache(), Path.cwd()
    try:
        spec = JobSpec.load(job.shared, job.identity)
        with _workspace(cache, job, spec, package):
            params = placed(load_params())
            try:
                if spec.stage == "repro":
                    _repro(spec.targets)
                elif spec.stage == "predict":
                    run_predict(params, *spec.outs)
                else:
                    run_stage(spec.stage, params)
            except _PASSING:
                raise
            except PipelineError as error:
                written = _store_files(cache, job, spec.outs)
                save_failure(job.shared, job.identity, job.attempt, str(error), written)
                raise
            _store(cache, job, spec)
    except _PASSING as error:
        print(f"convoy: {error}", file=sys.stderr)
        raise SystemExit(REPEAT) from error


@contextmanager
def _workspace(cache: NodeCache, job: JobContext, spec: JobSpec, package: Path) -> Iterator[None]:
    """Run the block in a folder that holds the inputs, the params and dvc.yaml.

    A driver before this one that still runs on this node is waited for.
    """
    folder = cache.workspace(job.identity)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        check_attempt(job)
        if not (folder / _COMPLETE).exists():  # else an attempt before this one was killed
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            cache.materialize(job.shared, load_tree(job.shared, spec.inputs), folder)
            if (lock := folder / DVC_LOCK).exists():  # DVC writes in place, never to the cache
                shutil.copyfile(lock, folder / "lock.tmp")
                (folder / "lock.tmp").replace(lock)
            shutil.copytree(package, folder, dirs_exist_ok=True)
            measured = cache.root / "index"  # what the stage index remembers
            measured.mkdir(exist_ok=True)
            (folder / ".convoy").mkdir(exist_ok=True)
            (folder / ".convoy" / "index").symlink_to(measured)
            (folder / _COMPLETE).touch()
        os.environ["PYTHONPATH"] = str(package)  # processes that are started find the code
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(package)
            shutil.rmtree(folder, ignore_errors=True)


def _repro(targets: Sequence[str]) -> None:
    """Run `dvc repro` in the current folder, which is no git repository.

    Raises:
        PipelineError: a stage has failed.
    """
    programs = Path(".convoy/bin").resolve()
    programs.mkdir(exist_ok=True)
    command = programs / "convoy"  # by which dvc.yaml calls what is not installed on a node
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m pipeline "$@"\n')
    command.chmod(0o755)
    mistake = programs / "mistake"
    mistake.unlink(missing_ok=True)
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        MISTAKE: str(mistake),
    }
    dvc = [sys.executable, "-m", "dvc"]
    if not Path(".dvc").exists():
        subprocess.run([*dvc, "init", "-q", "--no-scm"], env=environment, check=True)
    if subprocess.run([*dvc, "repro", *targets], env=environment, check=False).returncode:
        said = mistake.read_text(encoding="utf-8") if mistake.exists() else "its log says why"
        raise PipelineError(f"dvc repro has failed on the cluster: {said}")


def check_attempt(job: JobContext) -> None:
    """Refuse to go on beside a later attempt.

    Raises:
        PipelineError: there is one.
    """
    if (latest := latest_attempt(job.shared, job.identity)) > job.attempt:
        raise PipelineError(f"attempt {job.attempt} of this job was replaced by attempt {latest}")


def _store(cache: NodeCache, job: JobContext, spec: JobSpec) -> None:
    """Store outs, and records that wait for the MLflow store; then say that the job is done."""
    workspace, journals = Path.cwd(), job.state / JOURNALS.name
    if journals.is_dir():
        shutil.copytree(journals, workspace / JOURNALS, dirs_exist_ok=True)
    tree = _store_files(cache, job, [*spec.outs, str(JOURNALS)])
    check_attempt(job)
    save_result(job.shared, job.identity, tree)
    for training in (job.state / "runs").glob("*-*"):
        job.shared.remove(f"runs/{training.name}")
    shutil.rmtree(job.state, ignore_errors=True)


def _store_files(cache: NodeCache, job: JobContext, paths: Iterable[str]) -> Tree:
    workspace = Path.cwd()
    tree = snapshot(workspace, paths, DigestCache(workspace, workspace / ".convoy" / "digests"))
    for file in tree.files:
        cache.add(workspace / file.path, file)
    job.shared.put(tree.files, workspace, "outs")
    return tree
