"""A stage as a job of a cluster, seen from the machine of its user."""

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import as_text, atomic_path, fresh_folder
from pipeline.params import Params
from pipeline.recipes.kept import given_recipe, recipe_of
from pipeline.remote import is_uri
from pipeline.runtime.jobs.fetch import fetch
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
from pipeline.runtime.jobs.stage_files import stage_files
from pipeline.runtime.ray.job_server import JobServer
from pipeline.runtime.storage.job_context import JobContext
from pipeline.runtime.storage.shared import Storage
from pipeline.runtime.storage.trees import DigestCache, Tree, snapshot
from pipeline.runtime.storage.workspace import upload
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
# The stages that train, and whose recipe they follow.
_TRAINED = {"start": "train", "train": "train", "finetune": "finetune"}
# Stages whose first weights a job needs, where these are not the stage itself.
_WEIGHTS_NEEDED = {"repro": ("start", "train", "finetune"), "start": ("start", "train")}
_QUICK_S = 5.0  # with a storage that is asked for the first time


def send_stage(params: Params, stage: str) -> None:
    """Run a stage on the cluster of `resources.address`, and write its outs here.

    The same code, params and data make the same job: one that runs is joined, and the result of
    one that has ended is taken.

    Raises:
        PipelineError: something that the cluster lacks, a mistake that the stage found, a job that
            was stopped or failed too often; or the sender has detached.
    """
    files = stage_files(stage, params)
    carried = [path for path in files.inputs if stage != "index" or path != params.data.root]
    listing = _listing(params) if stage == "index" else None
    # What params say is not in the file of the stage autotune before that stage has run.
    recipe = recipe_of(params, _TRAINED[stage]) if stage in _TRAINED else None
    about = [files.values(params), recipe and recipe.model_dump(mode="json"), listing]
    job = SentJob(params, stage, carried, files.outs, about=about)
    result = job.run()
    job.fetch(result)


def reads_images_there(stage: str, params: Params) -> bool:
    """Whether the nodes see the images at `data.root`, if the stage reads them."""
    root = params.data.root
    if stage not in ("index", "pack"):
        return True
    if not (is_uri(root) or Path(root).is_absolute()):
        return False
    return first_unseen(params, [root]) is None


def first_unseen(params: Params, paths: Sequence[str]) -> str | None:
    """Return the first of some absolute paths or buckets that not all nodes can read.

    Raises:
        PipelineError: see `check_cluster`.
    """
    server = JobServer(str(params.resources.address))
    sees = check_cluster(params, server, Storage(params.resources.storage), paths).sees
    return next((path for path in paths if not sees[path]), None)


class SentJob:
    """A stage of this workspace, a whole `dvc repro`, or the classification of files, as a job.

    Attributes:
        spec: what it is.
    """

    def __init__(
        self,
        params: Params,
        stage: str,
        carried: Iterable[str],
        outs: Sequence[str],
        *,
        about: object,
        targets: Sequence[str] = (),
        folder: Path = Path(),
    ) -> None:
        """Hash what the job depends on.

        Args:
            params: with the cluster's address.
            stage: its name, 'repro' or 'predict'.
            carried: paths that travel.
            outs: paths that it writes.
            about: what else its result depends on, as JSON values.
            targets: of `dvc repro`.
            folder: in which the paths lie.
        """
        self._params, self._storage = params, Storage(params.resources.storage)
        self._folder = folder
        self._server = JobServer(str(params.resources.address))
        needs = _WEIGHTS_NEEDED.get(stage, (stage,))
        self._weights = {name: found for name in needs if (found := _weights(params, name))}
        extra = [str(weights["weights"]) for weights in self._weights.values()]
        self._tree = snapshot(folder, [*carried, *extra], DigestCache(folder, _DIGESTS))
        identity = values_digest(
            [stage, list(targets), code_digest(), about, self._tree.digest, self._weights]
        )
        self.spec = JobSpec(identity, stage, self._tree.digest, tuple(outs), tuple(targets))

    def id(self, attempt: int) -> str:
        """Return the name of an attempt at the job server."""
        return f"convoy-{self.spec.stage}-{self.spec.identity[:12]}-{attempt}"

    def run(self) -> Tree:
        """Join or submit the job and follow it to its end, in several attempts if need be.

        Returns:
            What it has written; all of it is in the storage.

        Raises:
            PipelineError: see `send_stage`.
        """
        identity, stage = self.spec.identity, self.spec.stage
        if result := self.result():
            print(f"{stage}: taken from the job {identity[:12]}, which has ended")
            return result
        most, failures = self._params.resources.max_failures, 0
        while True:
            attempt = self.join_or_submit()
            ended = follow(self._server, self.id(attempt))
            if result := self._whole_result(self._storage):
                return result
            if latest_attempt(self._storage, identity) > attempt:  # another sender was faster
                continue
            if failure := load_failure(self._storage, identity, attempt):
                message, written = failure
                try:
                    if stage != "repro":  # which writes here by convoy jobs fetch alone
                        self.fetch(written)
                except PipelineError as error:  # of less weight than why the stage failed
                    print(f"{stage}: {error}", flush=True)
                raise PipelineError(message)
            if ended and ended.status == "STOPPED":
                raise PipelineError(
                    f"the job {self.id(attempt)} was stopped; the same command runs it again, a"
                    " training from its last checkpoint"
                )
            failures += 1
            why = ended.reason if ended else "its cluster was restarted"
            print(f"{stage}: attempt {attempt} of the job has failed: {why}", flush=True)
            if failures > most:
                raise PipelineError(
                    f"the job {self.id(attempt)} failed {failures} times, at last since {why};"
                    f" convoy jobs --follow {self.id(attempt)} shows its log; mend the cause, and"
                    " the same command runs it again, a training from its last checkpoint"
                )

    def join_or_submit(self) -> int:
        """Return the number of the attempt that runs; it is started unless one does."""
        stage, storage, identity = self.spec.stage, self._storage, self.spec.identity
        attempt = latest_attempt(storage, identity)
        running = self._runs(attempt) if attempt else None
        if not running:
            check_cluster(self._params, self._server, storage)
            attempt += 1
            # One that has ended is of a storage that was emptied since.
            while (running := self._runs(attempt)) is False:
                attempt += 1
        if running:
            self._say(f"joins the job {self.id(attempt)}", 0)
            return attempt
        environment = self._context(attempt).environment() | _environment()
        sent = upload(storage, self._tree, f"{stage}: upload", self._folder)
        self.spec.save(storage)
        begin_attempt(storage, identity, attempt)
        with code_package() as package:
            fresh = self._server.submit(
                self.id(attempt),
                ENTRYPOINT,
                package=package,
                environment=environment,
                metadata={"stage": stage, "identity": identity, "storage": storage.uri},
            )
        self._say(f"{'runs as' if fresh else 'joins'} the job {self.id(attempt)}", sent)
        return attempt

    def _runs(self, attempt: int) -> bool | None:
        """Say whether an attempt runs; None where the job server knows none.

        Raises:
            PipelineError: it does not answer; all that the cluster lacks has been printed.
        """
        try:
            state = self._server.state(self.id(attempt))
        except PipelineError:
            check_cluster(self._params, self._server, self._storage, afresh=True)
            raise
        return state.running if state else None

    def fetch(self, written: Tree) -> None:
        """Write what the job has written."""
        fetch(self._storage, written, self.spec.outs, self._folder)

    def result(self) -> Tree | None:
        """Return what the job has written, None where it has not ended.

        Raises:
            PipelineError: the storage cannot be used; all that the cluster lacks has been printed.
        """
        try:
            return self._whole_result(Storage(self._storage.uri, _QUICK_S))
        except PipelineError:
            check_cluster(self._params, self._server, self._storage, afresh=True)
            return self._whole_result(self._storage)  # it was away for a moment

    def _whole_result(self, storage: Storage) -> Tree | None:
        """Return the result, unless the storage has lost a part of it."""
        result = load_result(storage, self.spec.identity)
        if result is None:
            return None
        there = storage.has(result.files)
        if lost := [file.path for file in result.files if file.sha256 not in there]:
            drop_result(storage, self.spec.identity)
            print(f"{self.spec.stage}: {storage.uri} has lost {as_text(lost[0])}; it is made again")
            return None
        return result

    def _say(self, what: str, sent: int) -> None:
        size = f"{sent / 2**20:.1f} MiB uploaded" if sent else "0 bytes to upload"
        print(f"{self.spec.stage}: {what} at {self._server.address}, {size}", flush=True)

    def _context(self, attempt: int) -> JobContext:
        uri = tracking_uri(self._params.tracking)
        check_address(uri)
        return JobContext(
            identity=self.spec.identity,
            attempt=attempt,
            storage=self._storage.uri,
            store=None if reached_from_elsewhere(uri) else lasting_address(uri),
            provenance=provenance(sorted({Path(file.path).parent for file in self._tree.files})),
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


def _listing(params: Params) -> str:
    """Digest the listing of the images at `data.root`, which do not travel."""
    from pipeline.data.sources.open import open_source

    images = open_source(params.data.root).list_images().images
    return values_digest(images.to_pydict())


def _weights(params: Params, stage: str) -> dict[str, object]:
    """Find first weights that are none of the stage's inputs, and copy them into the workspace."""
    if stage == "start":
        from pipeline.runtime.training.champion import find_champion

        champion = None if params.start.mode == "cold" else find_champion(params)
        return champion.values() if champion else {}
    if stage not in ("train", "finetune"):
        return {}
    if stage == "finetune" and params.recipe.made:
        return {}  # such a recipe goes on from the first training, and may not be made yet
    recipe = given_recipe(params, stage)
    if recipe.weights is None:
        return {}
    if recipe.weights in stage_files(stage, params).inputs:
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
    return asdict(replace(found, weights=None)) | {"weights": str(copy)}
