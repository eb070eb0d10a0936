"""A training as a Ray Train run that survives its processes."""

import shutil
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.runtime.ray.cluster import Cluster
from pipeline.runtime.ray.demand import Demand
from pipeline.runtime.ray.worker_config import WorkerConfig, run_worker
from pipeline.runtime.session.checkpoint_store import newest_checkpoint
from pipeline.runtime.session.event_log import Reader, following
from pipeline.runtime.session.interrupts import run_stoppable
from pipeline.runtime.session.run_folder import RunFolder
from pipeline.runtime.session.system_metrics import Take, collecting
from pipeline.vision.training.checkpoint import BEST_FILE
from pipeline.vision.training.job import Job

# Between two looks for room for more workers: to take them in costs some seconds.
_GROW_INTERVAL_S = 60.0


def train_on_ray(
    cluster: Cluster, job: Job, folder: RunFolder, reader: Reader, take_load: Take | None
) -> Path:
    """Train to the end and return the folder of the last checkpoint (see `Trainer.save`).

    Args:
        cluster: where.
        job: what to train.
        folder: for checkpoints and news; on several nodes all must see it.
        reader: gets the news.
        take_load: gets the load of each node; None: nobody wants to know.

    Raises:
        PipelineError: not enough resources, a mistake found by a worker, or workers that went
            on failing.
        KeyboardInterrupt: Ctrl-C or SIGTERM. The workers have saved a checkpoint, if there was
            time.
    """
    # While the cluster starts: the import takes a second.
    from pipeline.runtime.ray import trainer_overrides as parts  # noqa: F401

    demand = cluster.grant()
    job.check_shares(demand.most)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.stop.unlink(missing_ok=True)
    reader.begin()

    def ask() -> None:
        reader.fact("stopped", "stops after a checkpoint; ask again to stop at once")
        folder.stop.touch()

    fit = partial(_fit, cluster, job, folder, demand, take_load is not None)
    load = collecting(folder.load, take_load) if take_load else nullcontext()
    with load, following(folder.diary, reader):
        # There is a diary as soon as a worker trains.
        outcome = run_stoppable(
            fit, ask=ask, worth_asking=lambda: folder.diary.exists() and cluster.alive
        )
    if "error" in outcome:
        raise _mistake(outcome["error"], folder)
    if "stopped" in outcome:
        raise KeyboardInterrupt
    return Path(outcome["checkpoint"])


def _fit(
    cluster: Cluster, job: Job, folder: RunFolder, demand: Demand, samples_load: bool
) -> dict[str, str]:
    """Run Ray Train until the training has ended, and return what the first worker returned."""
    from ray.exceptions import RayActorError
    from ray.train.v2.api.exceptions import TrainingFailedError

    limit = cluster.resources.max_failures
    for restarts in range(limit + 1):
        trainer = _ray_trainer(cluster, job, folder, demand, samples_load)
        try:
            return dict(trainer.fit().return_value)
        except TrainingFailedError as error:
            raise _failure(error, cluster, folder) from error
        except RayActorError as error:
            # Ray restarts workers; the actor that does so is not restarted by anybody.
            if restarts == limit or cluster.closing:
                raise _failure(error, cluster, folder) from error
            _free_places()
    raise AssertionError("not reached")


def _ray_trainer(
    cluster: Cluster, job: Job, folder: RunFolder, demand: Demand, samples_load: bool
) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    from pipeline.runtime.ray.trainer_overrides import LeanTrainer

    resources = cluster.resources
    order = WorkerConfig(
        job=job,
        folder=folder,
        checkpoint_interval_s=resources.checkpoint_interval_s,
        threads=resources.threads,
        cores=int(demand.per_worker["CPU"]),
        loopback=cluster.private,
        samples_load=samples_load,
    )
    return LeanTrainer(
        private=cluster.private,
        train_loop_per_worker=partial(run_worker, order),
        backend_config=_backend(cluster),
        scaling_config=ScalingConfig(
            elastic_resize_monitor_interval_s=_GROW_INTERVAL_S,
            num_workers=(demand.fewest, demand.most) if demand.elastic else demand.most,
            use_gpu="GPU" in demand.per_worker,
            resources_per_worker=demand.per_worker,
        ),
        run_config=RunConfig(
            name=folder.name,
            storage_path=str(folder.storage),
            failure_config=FailureConfig(
                max_failures=resources.max_failures,
                controller_failure_limit=resources.max_failures,
                max_preemption_failures=resources.max_failures,
            ),
        ),
    )


def _backend(cluster: Cluster) -> Any:
    """Return how the workers meet: here by themselves, see `loopback_group`."""
    if cluster.private:
        from pipeline.runtime.ray.trainer_overrides import NoBackend

        return NoBackend()
    from ray.train.torch import TorchConfig  # it brings torch, which takes a second

    return TorchConfig()


def _free_places() -> None:
    """Give back what a dead controller has reserved; Ray would only when this driver ends."""
    import ray
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import (
        PlacementGroup,
        placement_group_table,
        remove_placement_group,
    )

    job = ray.get_runtime_context().get_job_id()
    for name in placement_group_table():
        if name.endswith(job):  # of the job that made it
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(name))))


def _mistake(message: str, folder: RunFolder) -> PipelineError:
    """Make the error for a user's mistake; a run folder without a checkpoint is of no use."""
    checkpoint = newest_checkpoint(folder.checkpoints)
    if checkpoint is None:
        shutil.rmtree(folder.path, ignore_errors=True)
        return PipelineError(message)
    return PipelineError(
        f"{message}; the last good checkpoint is {checkpoint}, and train.weights may point at its"
        f" {BEST_FILE}"
    )


def _failure(error: BaseException, cluster: Cluster, folder: RunFolder) -> PipelineError:
    """Make the error for processes that went on failing."""
    inner = getattr(error, "controller_failure", None)
    if isinstance(inner, PipelineError):
        return inner
    return PipelineError(
        f"training gave up after {cluster.resources.max_failures} restarts: {_cause(error)}; its"
        f" logs are in {cluster.logs}, its checkpoints in {folder.checkpoints}; mend the cause and"
        " run dvc repro to go on from there"
    )


def _cause(error: BaseException) -> str:
    """Find the last line of the innermost error."""
    failures = getattr(error, "worker_failures", None)
    inner: BaseException = next(iter(failures.values())) if failures else error
    lines = [line for line in str(inner).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(inner).__name__
