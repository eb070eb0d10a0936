"""A stage as a job of a cluster, seen from the machine of its user."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import atomic_path, fresh_folder
from pipeline.params import Params
from pipeline.params.choices.training import Training
from pipeline.progress import progress_bar
from pipeline.runtime.jobs.driver import JOURNALS
from pipeline.runtime.jobs.follow import follow
from pipeline.runtime.jobs.package import code_digest, code_package
from pipeline.runtime.jobs.preflight import check_cluster
from pipeline.runtime.jobs.spec import (
    JobSpec,
    begin_attempt,
    drop_result,
    latest_attempt,
    load_failure,
    load_result,
)
from pipeline.runtime.jobs.stage_files import StageFiles, stage_files
from pipeline.runtime.ray.job_server import JobServer
from pipeline.runtime.storage.job_context import JobContext
from pipeline.runtime.storage.shared import Storage
from pipeline.runtime.storage.trees import DigestCache, File, Tree, hash_file, snapshot
from pipeline.runtime.storage.workspace import save_tree
from pipeline.runtime.tracking.provenance import provenance
from pipeline.runtime.tracking.store import (
    check_address,
    lasting_address,
    reached_from_elsewhere,
    tracking_uri,
)
from pipeline.vision.bundle.digest import values_digest

ENTRYPOINT = "python -m pipeline job"
_WEIGHTS = Path(".convoy/weights")
_DIGESTS = Path(".convoy/digests.json")
# Seconds that a job has to save a checkpoint when it is stopped.
_STOP_WAIT_S = "15"


def send_stage(params: Params, stage: str) -> None:
    """Run a stage on the cluster of `resources.address`, and write its outs here.

    The same code, params and data make the same job: one that runs is joined, and the result of
    one that has ended is taken.

    Raises:
        PipelineError: something that the cluster lacks, a mistake that the stage found, a job that
            was stopped or failed too often; or the sender has detached.
    """
    storage = Storage(params.resources.storage)
    job = _Job(params, stage, storage)
    result = load_result(storage, job.spec.identity)
    if result is not None and _fetched(storage, job.spec, result):
        print(f"{stage}: taken from the job {job.spec.identity[:12]}, which has ended")
        return
    server = JobServer(str(params.resources.address))
    for failures in range(params.resources.max_failures + 1):
        attempt = job.join_or_submit(server)
        ended = follow(server, job.id(attempt))
        result = load_result(storage, job.spec.identity)
        if result is not None and _fetched(storage, job.spec, result):
            return
        if failure := load_failure(storage, job.spec.identity, attempt):
            message, written = failure
            fetch(storage, written, job.spec.outs)
            raise PipelineError(message)
        if ended and ended.status == "STOPPED":
            raise PipelineError(
                f"the job {job.id(attempt)} was stopped; run dvc repro to go on from its last"
                " checkpoint"
            )
        why = "its cluster was restarted" if ended is None else _why(ended.message, ended.exit_code)
        print(f"{stage}: attempt {attempt} of the job has failed: {why}", flush=True)
        if failures < params.resources.max_failures:
            print(f"{stage}: starts attempt {attempt + 1}", flush=True)
    raise PipelineError(
        f"the job {job.id(attempt)} failed {params.resources.max_failures + 1} times, the last time"
        f" since {why}; convoy jobs follow {job.id(attempt)} shows its log; mend the cause and run"
        " dvc repro to go on from its last checkpoint"
    )


class _Job:
    """A stage of this workspace as a job."""

    def __init__(self, params: Params, stage: str, storage: Storage) -> None:
        self._params, self._storage = params, storage
        files = stage_files(stage, params)
        self._weights = _first_weights(params, stage, files)
        extra = [str(weights["weights"]) for weights in self._weights.values()]
        known = DigestCache(Path(), _DIGESTS)
        self._tree = snapshot(Path(), [*_carried(stage, params, files), *extra], known)
        about = [stage, code_digest(), files.values(params), self._tree.digest, self._weights]
        identity = values_digest([*about, _listing(stage, params)])
        self.spec = JobSpec(identity, stage, self._tree.digest, files.outs)

    def id(self, attempt: int) -> str:
        """Return the name of an attempt at the job server."""
        return f"convoy-{self.spec.stage}-{self.spec.identity[:12]}-{attempt}"

    def join_or_submit(self, server: JobServer) -> int:
        """Return the number of the attempt that runs; it is started unless one does."""
        stage, storage, identity = self.spec.stage, self._storage, self.spec.identity
        attempt = latest_attempt(storage, identity)
        state = server.state(self.id(attempt)) if attempt else None
        if state and state.running:
            print(f"{stage}: joins the job {self.id(attempt)} at {server.address}", flush=True)
            return attempt
        check_cluster(self._params, server, storage)
        sent = storage.put(self._tree.files, Path(), f"{stage}: upload")
        save_tree(storage, self._tree)
        self.spec.save(storage)
        attempt += 1
        begin_attempt(storage, identity, attempt)
        with code_package() as package:
            fresh = server.submit(
                self.id(attempt),
                ENTRYPOINT,
                package=package,
                environment=self._context(attempt).environment() | _environment(),
                metadata={"stage": stage, "identity": identity, "storage": storage.uri},
            )
        verb = "runs as" if fresh else "joins"
        size = f"{sent / 2**20:.1f} MiB uploaded" if sent else "nothing to upload"
        print(f"{stage}: {verb} the job {self.id(attempt)} at {server.address}, {size}", flush=True)
        return attempt

    def _context(self, attempt: int) -> JobContext:
        uri, stage = tracking_uri(self._params.tracking), self.spec.stage
        check_address(uri)
        return JobContext(
            identity=self.spec.identity,
            attempt=attempt,
            storage=self._storage.uri,
            store=None if reached_from_elsewhere(uri) else lasting_address(uri),
            provenance=provenance([Path(path) for path in stage_files(stage, self._params).inputs]),
            weights=self._weights,
        )


def _environment() -> dict[str, str]:
    """Return what the processes of a job are to find in their environment."""
    values = {
        "RAY_JOB_STOP_WAIT_TIME_S": _STOP_WAIT_S,
        # Seconds between two looks of Ray at its workers; 2 by default.
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "25",
        "RAY_TRAIN_V2_ENABLED": "1",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PYTHONUNBUFFERED": "1",
    }
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        values["MLFLOW_TRACKING_URI"] = uri
    return values


def _carried(stage: str, params: Params, files: StageFiles) -> list[str]:
    """Return the inputs that travel: all but the images at `data.root`, which the nodes see."""
    root = params.data.root
    return [path for path in files.inputs if stage not in ("index", "pack") or path != root]


def _listing(stage: str, params: Params) -> str | None:
    """Digest the listing of the images at `data.root`, which do not travel."""
    if stage != "index":
        return None
    from pipeline.data.sources.open import open_source

    images = open_source(params.data.root).list_images().images
    return values_digest(images.to_pydict())


def _first_weights(params: Params, stage: str, files: StageFiles) -> dict[str, dict[str, object]]:
    """Find first weights that are none of the stage's inputs, and link them into the workspace."""
    recipes: dict[str, Training] = {"train": params.train, "finetune": params.finetune}
    recipe = recipes.get(stage)
    if recipe is None or recipe.weights is None or recipe.weights in files.inputs:
        return {}
    from pipeline.runtime.training.initial_weights import find_initial_weights

    found = find_initial_weights(params, recipe)
    assert found.weights is not None
    digest = values_digest([str(found.weights), found.origin])[:16]
    copy = _WEIGHTS / digest / found.weights.name
    if found.weights.is_dir():
        with fresh_folder(copy) as new:
            shutil.copytree(found.weights, new, dirs_exist_ok=True)
    else:
        with atomic_path(copy) as temporary:
            shutil.copyfile(found.weights, temporary)
    return {stage: asdict(replace(found, weights=None)) | {"weights": str(copy)}}


def _why(message: str, exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"its driver was killed by signal {-exit_code}"
    lines = [line for line in message.splitlines() if line.strip()]
    return " ".join(lines[0].split())[:200] if lines else f"its driver left exit code {exit_code}"


def _fetched(storage: Storage, spec: JobSpec, result: Tree) -> bool:
    """Write the outs of a job; a damaged result is forgotten, so that it is made again."""
    try:
        fetch(storage, result, spec.outs)
    except FileNotFoundError as error:
        drop_result(storage, spec.identity)
        print(f"{spec.stage}: its result in {storage.uri} is damaged ({error}); it is made again")
        return False
    return True


def fetch(storage: Storage, tree: Tree, outs: Iterable[str]) -> None:
    """Write files of the storage below the current folder, each out as a whole.

    Raises:
        FileNotFoundError: one is missing or damaged, and nothing of its out is written.
    """
    with progress_bar(tree.size, "fetch", "B") as bar:
        for out in (*outs, str(JOURNALS)):
            inside = [file for file in tree.files if file.path.startswith(f"{out}/")]
            single = [file for file in tree.files if file.path == out]
            if out == str(JOURNALS):
                single, inside = inside, []
            for file in single:
                with atomic_path(Path(file.path)) as temporary:
                    _get(storage, file, temporary)
                bar.update(file.size)
            if inside:
                with fresh_folder(Path(out)) as folder:
                    for file in inside:
                        path = folder / Path(file.path).relative_to(out)
                        path.parent.mkdir(parents=True, exist_ok=True)
                        _get(storage, file, path)
                        bar.update(file.size)


def _get(storage: Storage, file: File, to: Path) -> None:
    storage.get(file, to)
    if hash_file(to) != file.sha256:
        storage.forget(file)
        raise FileNotFoundError(f"{file.path} is not what its digest says")
    to.chmod(0o644)
