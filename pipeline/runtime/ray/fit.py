"""A training as a Ray Train run: in this process, or in actors that replace each other."""

import gc
import logging
import os
import shutil
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.parallel import usable_cores
from pipeline.params import Resources
from pipeline.runtime.ray.cluster import Cluster, open_cluster
from pipeline.runtime.ray.demand import Demand, state_demand
from pipeline.runtime.ray.placing import Place, place_files, publish_job
from pipeline.runtime.ray.torchrun import torchrun_world
from pipeline.runtime.ray.worker_config import WorkerConfig
from pipeline.runtime.session.checkpoint_store import newest_checkpoint
from pipeline.runtime.session.event_log import Reader, following
from pipeline.runtime.session.interrupts import run_here, run_in_thread
from pipeline.runtime.session.run_folder import RunFolder
from pipeline.runtime.session.system_metrics import collecting
from pipeline.runtime.storage.job_context import current_job
from pipeline.runtime.storage.node_cache import NodeCache
from pipeline.runtime.storage.workspace import Inputs
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.training.checkpoint import BEST_FILE
from pipeline.vision.training.job import Job

# Between two looks for room for more workers: to take them in costs some seconds.
_GROW_INTERVAL_S = 60.0

# Returns what the first worker returned, see `worker.train`.
Fit = Callable[[], dict[str, Any]]


def fit(
    job: Job,
    arithmetic: Arithmetic,
    resources: Resources,
    folder: RunFolder,
    reader: Reader,
) -> tuple[Path, Arithmetic]:
    """Train to the end.

    Args:
        job: what to train.
        arithmetic: how to compute, where that is possible.
        resources: on what. One worker of this machine trains in this process.
        folder: for checkpoints and events, of this machine.
        reader: gets the events, and the system metrics of each node if it wants them.

    Returns:
        The folder of the last checkpoint (see `Trainer.save`), and how it was computed.

    Raises:
        PipelineError: not enough resources, a mistake found by a worker, or workers that went
            on failing.
        KeyboardInterrupt: Ctrl-C or SIGTERM. The workers have saved a checkpoint, if there was
            time.
    """
    with nullcontext() if runs_here(resources) else open_cluster(resources) as cluster:
        demand = cluster.grant() if cluster else grant_here(resources)
        job.check_shares(demand.most)
        place, job = place_files(job, folder, cluster)
        config = replace(
            _config(arithmetic, resources, folder, place, demand),
            in_actor=cluster is not None,
            loopback=cluster is not None and cluster.private,
            samples_system=reader.wants_system_metrics,
        )
        function = partial(_run_worker, job, config)
        if cluster:
            run = partial(_fit_actors, cluster, folder, demand, function)
        else:
            run = partial(_fit_here, folder, function)
        return _follow(run, folder, reader, cluster, place)


def _config(
    arithmetic: Arithmetic,
    resources: Resources,
    folder: RunFolder,
    place: Place,
    demand: Demand,
) -> WorkerConfig:
    """Return what a worker in this process gets."""
    return WorkerConfig(
        folder=folder,
        files=place.files,
        checkpoints=place.checkpoints,
        scratch=folder.storage,
        inputs=place.inputs,
        checkpoint_interval_s=resources.checkpoint_interval_s,
        arithmetic=arithmetic,
        threads=resources.threads,
        cores=int(demand.per_worker["CPU"]),
        gpu="GPU" in demand.per_worker,
        in_actor=False,
        loopback=False,
        samples_system=False,
    )


def runs_here(resources: Resources) -> bool:
    """Whether a training starts no other process: it needs one, or torchrun has started all."""
    alone = resources.most_workers == 1 or torchrun_world() is not None
    return resources.address is None and alone


def grant_here(resources: Resources) -> Demand:
    """Say what the worker in this process gets; of torchrun's processes each gets its share.

    Raises:
        PipelineError: this machine does not have it.
    """
    import torch

    machine = {"CPU": float(usable_cores()), "GPU": float(torch.cuda.device_count())}
    world = torchrun_world()
    if world is None:
        return state_demand(resources, [machine], "this machine")
    here = resources.model_copy(update={"workers": world.local_size})
    return replace(
        state_demand(here, [machine], "this machine"), fewest=world.size, most=world.size
    )


def fit_member(job: Job, arithmetic: Arithmetic, resources: Resources, folder: RunFolder) -> None:
    """Train in one of torchrun's processes but the first, which records and writes.

    Raises:
        PipelineError: see `fit`.
        KeyboardInterrupt: the first process was asked to stop.
    """
    place, job = place_files(job, folder, None)
    config = _config(arithmetic, resources, folder, place, grant_here(resources))
    run = partial(_fit_here, folder, partial(_run_worker, job, config))
    # A signal is for the first process, after whose checkpoint all end.
    outcome = run_here(run, ask=lambda: None, worth_asking=lambda: True)
    if "error" in outcome:
        raise PipelineError(outcome["error"])
    if "stopped" in outcome:
        raise KeyboardInterrupt


def autotune(
    job: Job, resources: Resources, *, timed: bool = False
) -> tuple[Arithmetic, dict[str, Any]]:
    """Choose precision and memory order where a worker would train, see `choose_compute`.

    Returns:
        The choice, and what it was chosen from; `timed`, also the "pace", see `measure_pace`.

    Raises:
        PipelineError: not enough resources, or see `choose_compute`.
    """
    if runs_here(resources):
        return _autotune(job, resources, grant_here(resources), timed=timed, in_actor=False)
    with open_cluster(resources) as cluster:
        demand = cluster.grant()
        task = cluster.ray.remote(_autotune).options(
            num_cpus=demand.per_worker["CPU"],
            num_gpus=demand.per_worker.get("GPU", 0),
            max_retries=0 if cluster.private else resources.max_failures,
        )
        within = current_job()
        inputs, job = publish_job(job, within) if within else (None, job)
        answer = task.remote(job, resources, demand, timed=timed, in_actor=True, inputs=inputs)
        chosen: tuple[Arithmetic, dict[str, Any]] = cluster.ask(lambda: cluster.ray.get(answer))
        return chosen


def _autotune(
    job: Job,
    resources: Resources,
    demand: Demand,
    *,
    timed: bool,
    in_actor: bool,
    inputs: Inputs | None = None,
) -> tuple[Arithmetic, dict[str, Any]]:
    from pipeline.runtime.ray.worker import tune

    if inputs:
        job = job.moved(Path(), inputs.fetch())
    return tune(job, resources, demand, timed=timed, in_actor=in_actor)


def probe(resources: Resources) -> str:
    """Look for the resources as a training would, and say what there is.

    Raises:
        PipelineError: no cluster answers, or it has too little.
    """
    if runs_here(resources):
        return f"this process has room for {grant_here(resources)}"
    with open_cluster(resources) as cluster:
        demand = cluster.grant(patience_s=0.0)
    return f"a local cluster has room for {demand}"


def _run_worker(job: Job, config: WorkerConfig) -> dict[str, Any]:
    """Run in each worker, see `worker.train`."""
    # As in __main__: imports make objects and no garbage. The first step comes 0.8 s sooner.
    gc.set_threshold(100_000, 50, 50)
    # Not sooner: the driver of a cluster, which imports this module too, needs no torch.
    from pipeline.runtime.ray.worker import train

    if config.inputs is None:
        return train(job, config)
    job = job.moved(Path(), config.inputs.fetch())
    scratch = NodeCache().root / "runs"
    config = replace(config, scratch=scratch, checkpoints=config.checkpoints.moved(scratch))
    try:
        return train(job, config)
    finally:
        shutil.rmtree(scratch / config.folder.name, ignore_errors=True)


def _follow(
    run: Fit, folder: RunFolder, reader: Reader, cluster: Cluster | None, place: Place
) -> tuple[Path, Arithmetic]:
    """Run a training, hand its events on, and let signals end it in order."""
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.stop.unlink(missing_ok=True)
    reader.begin(cluster.logs if cluster else None)

    def ask() -> None:
        reader.fact("stopped", "stops after a checkpoint; ask again to stop at once")
        folder.stop.touch()

    def worth_asking() -> bool:
        # There is an event log as soon as a worker trains.
        return folder.events.exists() and (cluster is None or cluster.alive)

    wanted = reader.wants_system_metrics
    sampled = collecting(folder.system, reader.system_metrics) if wanted else nullcontext()
    with sampled, following(folder.events, reader):
        # Ray waits without taking signals, so that the main thread must be free for them.
        stoppable = partial(run_in_thread, check=cluster.check) if cluster else run_here
        outcome = stoppable(run, ask=ask, worth_asking=worth_asking)
    if "error" in outcome:
        raise _mistake(outcome["error"], folder)
    if "stopped" in outcome:
        raise KeyboardInterrupt
    return place.checkpoints.open(outcome["checkpoint"]), Arithmetic.of(outcome["arithmetic"])


def _fit_here(folder: RunFolder, function: Fit) -> dict[str, Any]:
    """Run the training in this process, by Ray Train's local mode.

    Nobody restarts it: a failure that is no mistake of the user would come again.
    """
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    trainer = TorchTrainer(
        function,
        scaling_config=ScalingConfig(num_workers=0),
        run_config=RunConfig(name=folder.name, storage_path=str(folder.storage)),
    )
    try:
        return dict(trainer.fit().return_value)
    except PipelineError:
        raise
    except Exception as error:
        log = folder.path / "traceback.txt"
        log.write_text(traceback.format_exc())
        raise PipelineError(
            f"training failed: {_last_line(error)}; the traceback is in {log}, checkpoints are in"
            f" {folder.checkpoints}; mend the cause and run dvc repro to go on from there"
        ) from error


def _fit_actors(
    cluster: Cluster, folder: RunFolder, demand: Demand, function: Fit
) -> dict[str, Any]:
    """Run the training in actors of a cluster."""
    from ray.exceptions import RayActorError
    from ray.train.v2.api.exceptions import TrainingFailedError

    from pipeline.runtime.ray.internals import free_placement_groups

    limit = cluster.resources.max_failures
    for restarts in range(limit + 1):
        trainer = _ray_trainer(cluster, folder, demand, function)
        try:
            return dict(trainer.fit().return_value)
        except TrainingFailedError as error:
            raise _failure(error, cluster, folder) from error
        except RayActorError as error:
            # Ray restarts workers; the actor that does so is not restarted by anybody.
            if restarts == limit or cluster.closing:
                raise _failure(error, cluster, folder) from error
            free_placement_groups()
    raise AssertionError("not reached")


def _ray_trainer(cluster: Cluster, folder: RunFolder, demand: Demand, function: Fit) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig

    from pipeline.runtime.ray.internals import LeanTrainer
    from pipeline.runtime.ray.policy import CapacityPolicy

    failures = cluster.resources.max_failures
    scaling_config = ScalingConfig(
        elastic_resize_monitor_interval_s=_GROW_INTERVAL_S,
        num_workers=(demand.fewest, demand.most) if demand.elastic else demand.most,
        use_gpu="GPU" in demand.per_worker,
        resources_per_worker=demand.per_worker,
    )
    return LeanTrainer(
        CapacityPolicy(scaling_config, private=cluster.private),
        train_loop_per_worker=function,
        backend_config=_backend(cluster),
        scaling_config=scaling_config,
        run_config=RunConfig(
            name=folder.name,
            # Of Ray's own: our checkpoints do not go there.
            storage_path=str(folder.storage),
            failure_config=FailureConfig(
                max_failures=failures,
                controller_failure_limit=failures,
                max_preemption_failures=failures,
            ),
        ),
    )


def _backend(cluster: Cluster) -> Any:
    """Return how the workers meet: here by themselves, see `loopback_group`."""
    if cluster.private:
        from pipeline.runtime.ray.internals import NoBackend

        return NoBackend()
    from ray.train.torch import TorchConfig  # it imports torch, which takes a second

    return TorchConfig()


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
    failures = getattr(error, "worker_failures", None)
    cause: BaseException = next(iter(failures.values())) if failures else error
    return PipelineError(
        f"training gave up after {cluster.resources.max_failures} restarts: {_last_line(cause)};"
        f" its logs are in {cluster.logs}, its checkpoints in {folder.checkpoints}; mend the cause"
        " and run dvc repro to go on from there"
    )


def _last_line(error: BaseException) -> str:
    """Return the last line of an error's message, which names its cause."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
