"""The one place that imports Ray: a training as a Ray Train run that survives its processes.

The run's name is a digest of all that the training depends on. Ray Train goes on from the last
checkpoint of a run of the same name, so a training that was killed is finished by the next
call, and one with other parameters never picks up a stranger's checkpoint.
"""

import json
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.params import Resources
from pipeline.vision.training.batches import Share
from pipeline.vision.training.job import Job
from pipeline.vision.training.trainer import Record, Trainer

_RECORDS_FILE = "records.jsonl"
_POLL_S = 0.1
_CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class RayRun:
    """Where one training runs and what it may use.

    Attributes:
        name: a digest of the training.
        storage: folder for checkpoints; shared, if there are several nodes.
        resources: workers and what each gets.
    """

    name: str
    storage: Path
    resources: Resources

    @property
    def folder(self) -> Path:
        """The run's own folder."""
        return self.storage / self.name

    @property
    def records(self) -> Path:
        """One JSON line per epoch, written by the first worker."""
        return self.folder / _RECORDS_FILE


def train_on_ray(job: Job, run: RayRun, follow: Callable[[Record], None]) -> Path:
    """Train to the end and return the folder of the last checkpoint (see `Trainer.save`).

    Args:
        job: what to train.
        run: where.
        follow: called in a thread with each epoch's record, soon after the epoch ends; after a
            restart, first with the records of the epochs that are not run again.

    Raises:
        PipelineError: not enough resources, a mistake found by a worker, or workers that went
            on failing.
    """
    with _cluster(run.resources) as ray:
        resources = _check_resources(ray, run.resources)
        return _fit(ray, job, run, resources, follow)


def _fit(
    ray: Any, job: Job, run: RayRun, per_worker: dict[str, float], follow: Callable[[Record], None]
) -> Path:
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.backend import BackendConfig
    from ray.train.torch import TorchConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    trainer = DataParallelTrainer(
        _work,
        # A worker on its own has nobody to meet, and torch's meeting point listens on every
        # address of the machine.
        backend_config=TorchConfig() if run.resources.workers > 1 else BackendConfig(),
        train_loop_config={
            "job": job,
            "records": run.records,
            "checkpoint_interval_s": run.resources.checkpoint_interval_s,
        },
        scaling_config=ScalingConfig(
            num_workers=run.resources.workers,
            use_gpu="GPU" in per_worker,
            resources_per_worker=per_worker,
        ),
        run_config=RunConfig(
            name=run.name,
            storage_path=str(run.storage),
            # The checkpoint holds the best weights beside the last; one older is a reserve.
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(
                max_failures=run.resources.max_failures,
                controller_failure_limit=run.resources.max_failures,
            ),
        ),
    )
    with _following(run.records, follow), _terminated_as_interrupted():
        try:
            result = trainer.fit()
        except SystemExit as error:  # how Ray ends the driver after an interrupt
            raise KeyboardInterrupt from error
        except TrainingFailedError as error:
            log = ray._private.worker._global_node.get_session_dir_path()
            raise PipelineError(
                f"training gave up after {run.resources.max_failures} restarts: {_cause(error)};"
                f" its logs are in {log}/logs, its last checkpoint in {run.folder}; mend the"
                " cause and run dvc repro to go on from there"
            ) from error
    if "error" in result.return_value:
        shutil.rmtree(run.folder, ignore_errors=True)  # nothing there to go on from
        raise PipelineError(result.return_value["error"])
    return Path(result.checkpoint.path)


def _work(config: dict[str, Any]) -> dict[str, str]:
    """Run in each worker. A mistake of the user is returned, for raising it means a restart."""
    import ray.train
    import ray.train.torch

    context = ray.train.get_context()
    share = Share(context.get_world_rank(), context.get_world_size())
    try:
        trainer, _ = config["job"].build(share, ray.train.torch.get_device())
        checkpoint = ray.train.get_checkpoint()
        if checkpoint:
            with checkpoint.as_directory() as folder:
                trainer.restore(Path(folder))
        _train(trainer, share, config["records"], config["checkpoint_interval_s"])
    except PipelineError as error:
        return {"error": str(error)}
    return {}


def _train(trainer: Trainer, share: Share, records: Path, checkpoint_interval_s: float) -> None:
    """Run the epochs that are left; the first worker records each and saves now and then."""
    if share.rank == 0:
        records.parent.mkdir(parents=True, exist_ok=True)
        done = "".join(json.dumps(record) + "\n" for record in trainer.progress.history)
        records.write_text(done)
    saved_at = time.monotonic()
    while not trainer.done:
        record = trainer.run_epoch()
        if share.rank == 0:
            with records.open("a") as file:
                file.write(json.dumps(record) + "\n")
        # A report is a barrier and takes a while, so it waits for its turn. All workers must
        # take part in it: the first one's clock decides for all.
        due = trainer.agree(time.monotonic() - saved_at > checkpoint_interval_s)
        if due or trainer.done:
            _report(trainer, record, share)
            saved_at = time.monotonic()


def _report(trainer: Trainer, record: Record, share: Share) -> None:
    import ray.train

    if share.rank != 0:
        ray.train.report(record)
        return
    with tempfile.TemporaryDirectory() as folder:
        trainer.save(Path(folder))
        ray.train.report(record, checkpoint=ray.train.Checkpoint.from_directory(folder))


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C, for which Ray takes the run down in order."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are none of this thread's business
        return
    interrupt, terminate = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, terminate)
        signal.signal(signal.SIGINT, interrupt)  # Ray leaves its own behind


@contextmanager
def _following(records: Path, follow: Callable[[Record], None]) -> Iterator[None]:
    """Call `follow` with each line that is appended to `records`, until the block ends."""
    ended = threading.Event()

    def watch() -> None:
        position = 0
        while True:
            last_look = ended.is_set()
            if records.exists():
                if records.stat().st_size < position:
                    position = 0  # a restarted worker wrote the file anew
                with records.open() as file:
                    file.seek(position)
                    for line in iter(file.readline, ""):
                        if not line.endswith("\n"):
                            break
                        position += len(line)
                        follow(json.loads(line))
            if last_look:
                return
            ended.wait(_POLL_S)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _cluster(resources: Resources) -> Iterator[Any]:
    """Connect to the cluster at `resources.address`, or start one of this machine's cores."""
    # No call home; the default health check adds up to 2 s to each checkpoint.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    arguments: dict[str, Any] = {"address": resources.address}
    if resources.address is None:
        # "local" never joins a cluster that happens to run here.
        arguments = {"address": "local", "include_dashboard": False}
        # Ray resolves even 127.0.0.1 to the machine's public address, and then listens on all
        # of them. This switch, made for desktop systems, keeps a local cluster to loopback.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    else:
        _check_answers(resources.address)
        _show_token()
    import ray

    if ray.is_initialized():  # by whoever called us, who also ends it
        yield ray
        return
    try:
        ray.init(**arguments, logging_level=logging.ERROR, log_to_driver=False)
    except ConnectionError as error:
        raise _no_cluster(resources.address, error) from error
    logging.getLogger("ray.train").setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        ray.shutdown()


def _show_token() -> None:
    """Have Ray show its token to the cluster, where there is one and nothing else is asked for.

    A cluster that finds a token asks for it; a driver that joins does not show it by itself.
    """
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ)
    if given or (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def _check_answers(address: str) -> None:
    """Knock at the door: Ray itself would go on knocking for minutes."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if not port.isdigit():  # such as 'auto', which Ray looks up
        return
    try:
        socket.create_connection((host, int(port)), _CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str | None, error: Exception) -> PipelineError:
    return PipelineError(
        f"no Ray cluster answers at resources.address {address} ({error}); start one with ray"
        " start --head, or set resources.address to null to train on this machine"
    )


def _check_resources(ray: Any, resources: Resources) -> dict[str, float]:
    """Return what each worker gets; more than the cluster has would be waited for, for ever."""
    cluster = ray.cluster_resources()
    cpus = resources.cpus_per_worker or max(int(cluster.get("CPU", 0)) // resources.workers, 1)
    gpus = resources.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if cluster.get("GPU", 0) >= resources.workers else 0.0
    per_worker = {"CPU": float(cpus), "GPU": gpus}
    short = {
        kind: (amount * resources.workers, cluster.get(kind, 0.0))
        for kind, amount in per_worker.items()
        if amount * resources.workers > cluster.get(kind, 0.0)
    }
    if short:
        asked = " and ".join(f"{asked:g} {kind}s" for kind, (asked, _) in short.items())
        found = " and ".join(f"{has:g} {kind}s" for kind, (_, has) in short.items())
        raise PipelineError(
            f"resources asks for {asked} ({resources.workers} workers), the cluster has {found};"
            " lower resources.workers or what each gets in params.yaml"
        )
    return {kind: amount for kind, amount in per_worker.items() if amount}


def _cause(error: BaseException) -> str:
    """Find the last line of the innermost error."""
    failures = getattr(error, "worker_failures", None)
    inner: BaseException = next(iter(failures.values())) if failures else error
    lines = [line for line in str(inner).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(inner).__name__


def probe(resources: Resources) -> str:
    """Connect as a training would, compare what is asked with what there is, and say it.

    Raises:
        PipelineError: no cluster answers, or it has too little.
    """
    with _cluster(resources) as ray:
        per_worker = _check_resources(ray, resources)
        where = resources.address or "a local cluster"
        shares = " and ".join(f"{amount:g} {kind}" for kind, amount in per_worker.items())
        return f"{where} starts, {resources.workers} workers of {shares} each fit"
