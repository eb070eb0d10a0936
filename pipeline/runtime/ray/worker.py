"""What runs in each worker: build the trainer, go on from the newest checkpoint, train."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

import torch
from torch.backends.cpu import get_cpu_capability

from pipeline.errors import PipelineError
from pipeline.params import Resources
from pipeline.progress import progress_bar
from pipeline.runtime.ray.demand import Demand
from pipeline.runtime.ray.group import loopback_group
from pipeline.runtime.ray.torchrun import torchrun_world
from pipeline.runtime.ray.worker_config import WorkerConfig
from pipeline.runtime.session.compute_cache import cached_compute
from pipeline.runtime.session.event_log import EventLog
from pipeline.runtime.session.memory import peak_memory
from pipeline.runtime.session.sync_schedule import Decision, SyncSchedule
from pipeline.runtime.session.system_metrics import sampling
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.training.autotune import choose_compute
from pipeline.vision.training.batches import Share
from pipeline.vision.training.building import build_trainer
from pipeline.vision.training.compute_config import ComputeConfig, supported
from pipeline.vision.training.job import Job
from pipeline.vision.training.memory import keep_freed_memory
from pipeline.vision.training.pace import measure_pace
from pipeline.vision.training.trainer import Trainer
from pipeline.vision.training.worker import Worker


def train(job: Job, config: WorkerConfig) -> dict[str, Any]:
    """Train to the end, or until the driver asks to stop.

    Returns:
        'checkpoint': the last one (by the first worker), or 'stopped', with 'arithmetic'; or
        'error': a mistake of the user, which is returned because raising it would mean a restart.
    """
    import ray.train

    keep_freed_memory()
    context = ray.train.get_context()
    share = Share(context.get_world_rank(), context.get_world_size())
    device = _device(config.gpu, config.in_actor, context.get_local_rank())
    try:
        start = _agree_on_start(job, config, share, device)
        torch.set_num_threads(start.compute.threads)
        meet = share.workers > 1 and config.loopback
        meeting = config.folder.path / f"meeting-{start.meeting}"
        watches = config.samples_system and context.get_local_rank() == 0
        with (
            loopback_group(share, meeting, device) if meet else nullcontext(),
            _sampling(config, context.get_node_rank()) if watches else nullcontext(),
        ):
            trainer = _build_together(job, config, share, device, start)
            worker = Worker(share, device, start.compute.arithmetic)
            log = None if share.rank else _open_log(job, config, trainer, start, worker)
            return _train(trainer, config, log, device, start.checkpoint) | {
                "arithmetic": asdict(start.compute.arithmetic)
            }
    except PipelineError as error:
        return {"error": str(error)}


def _sampling(config: WorkerConfig, node: int) -> AbstractContextManager[None]:
    return sampling(config.folder.system, node, files=config.files)


def tune(
    job: Job, resources: Resources, demand: Demand, *, timed: bool, in_actor: bool
) -> tuple[Arithmetic, dict[str, Any]]:
    """Choose how one of the workers of a training computes.

    Args:
        job: what will be trained.
        resources: as in params.yaml.
        demand: what each worker gets.
        timed: whether to measure its pace, too: "pace" of the record, see `measure_pace`.
        in_actor: whether Ray chooses the GPU.
    """
    keep_freed_memory()
    share, device = Share(0, demand.most), _device("GPU" in demand.per_worker, in_actor, 0)
    with progress_bar(None, f"autotune: {job.stage}", "trial") as bar:
        chosen, trial = choose_compute(
            job,
            share,
            device,
            threads=resources.threads,
            most_threads=int(demand.per_worker["CPU"]),
            report=lambda text: bar.say(f"autotune: {job.stage}: {text}"),
        )
        if timed:
            bar.say(f"autotune: {job.stage}: measuring the pace")
            trial = {**trial, "pace": measure_pace(job, share, device, chosen)}
    return chosen.arithmetic, trial


def _device(gpu: bool, in_actor: bool, local_rank: int) -> torch.device:
    """Return what this worker computes on; it becomes the current CUDA device."""
    if not gpu:
        return torch.device("cpu")
    from ray.train.torch import get_device

    device = get_device() if in_actor else torch.device("cuda", local_rank)
    torch.cuda.set_device(device)  # where NCCL, and whatever names no device, will work
    return device


@dataclass(frozen=True)
class _Start:
    """How all workers start.

    Attributes:
        checkpoint: name of the one to go on from, '' for none.
        meeting: of this group of workers alone.
        compute: how they compute.
    """

    checkpoint: str
    meeting: str
    compute: ComputeConfig


def _agree_on_start(job: Job, config: WorkerConfig, share: Share, device: torch.device) -> _Start:
    """Have the first worker say from which checkpoint, where and how to start."""
    start, mistake = None, None
    if share.rank == 0:
        try:
            checkpoint = config.checkpoints.begin()
            compute = _choose_compute(job, config, share, device)
            start = _Start(checkpoint, uuid4().hex, compute)
        except PipelineError as error:
            mistake = str(error)
    if torchrun_world():  # Ray's local mode sends nothing between processes
        said: list[Any] = [start, mistake]
        torch.distributed.broadcast_object_list(said)
        start, mistake = said
    elif share.workers > 1:
        from ray.train.collective import broadcast_from_rank_zero

        start, mistake = broadcast_from_rank_zero((start, mistake))
    if start is None:
        raise PipelineError(mistake)
    return start


def _build_together(
    job: Job, config: WorkerConfig, share: Share, device: torch.device, start: _Start
) -> Trainer:
    """Build this worker's trainer; what one worker cannot do, none goes on with.

    Raises:
        PipelineError: on all workers, what the first that failed found.
    """
    trainer, mistakes = None, [""] * share.workers
    try:
        trainer = build_trainer(job, share, device, start.compute)
        if start.checkpoint:
            trainer.restore(config.checkpoints.open(start.checkpoint))
    except PipelineError as error:
        mistakes[share.rank] = str(error)
    if share.workers > 1:
        torch.distributed.all_gather_object(mistakes, mistakes[share.rank])
    if trainer is None or any(mistakes):
        raise PipelineError(next(filter(None, mistakes)))
    return trainer


def _choose_compute(
    job: Job, config: WorkerConfig, share: Share, device: torch.device
) -> ComputeConfig:
    """Choose threads, and arithmetic where that asked for is impossible, or take it as before."""
    recipe, on_gpu = job.recipe, device.type == "cuda"
    question = {
        "network": [job.network, job.args, job.training_set.info.shape],
        "batch": [recipe.global_batch_size, recipe.accumulate, recipe.trainable, share.workers],
        "asked": [recipe.precision, config.threads, config.cores],
        "known": asdict(config.arithmetic),
        "device": torch.cuda.get_device_name(device) if on_gpu else get_cpu_capability(),
        "torch": torch.__version__,
    }

    def choose() -> ComputeConfig:
        with progress_bar(None, f"{job.stage}: number of threads", "trial") as bar:
            chosen, _ = choose_compute(
                job,
                share,
                device,
                threads=config.threads,
                most_threads=config.cores,
                known=config.arithmetic,
                report=lambda _: bar.update(),
            )
        return chosen

    return cached_compute(config.scratch / "compute", question, choose)


def _open_log(
    job: Job, config: WorkerConfig, trainer: Trainer, start: _Start, worker: Worker
) -> EventLog:
    """Log the epochs that are done already, and how this goes on."""
    state, known = trainer.state, config.arithmetic
    log = EventLog(config.folder.events, state.history, config.files)
    workers = "1 worker" if worker.share.workers == 1 else f"{worker.share.workers} workers"
    log.compute(start.compute.arithmetic, f"{workers}, {start.compute}")
    if impossible := supported(known, worker.device):
        log.fact("tuned", f"{known}, as tuned, is impossible here: {impossible}")
    if start.checkpoint:
        where = f"epoch {state.epochs_done + 1}, step {state.steps_done + 1}"
        log.fact("resumed", f"goes on from {where}")
    elif trainer.loaded:
        log.fact("loaded", f"from {job.recipe.weights}: {trainer.loaded}")
    return log


def _train(
    trainer: Trainer,
    config: WorkerConfig,
    log: EventLog | None,
    device: torch.device,
    newest: str,
) -> dict[str, str]:
    """Train from the checkpoint `newest` until it is done or stopped.

    Only the first worker has a log.
    """
    schedule, steps = SyncSchedule(config.checkpoint_interval_s), 1
    fresh = trainer.state.epochs_done == trainer.state.steps_done == 0
    while not trainer.done:
        record = trainer.advance(steps)
        if log and fresh and (warning := trainer.loud_start()):
            log.fact("loud_start", warning)
        fresh = False
        # Looking up together costs the workers a message each, so that they do it about once a
        # second, all after the same step.
        mine = (0, 0)
        if log:
            if record:
                # Beside the record: the history is that of the same training on any machine.
                log.record(record | peak_memory(device))
            else:
                log.epoch_progress(trainer.epoch_progress())
            mine = schedule.decide(config.files.exists(config.folder.stop))
        decision, steps = trainer.agree(*mine)
        if decision != Decision.GO_ON or trainer.done:
            # All workers: one that found it alone would leave the others waiting.
            trainer.check_finite()
            begin, mistake = time.monotonic(), ""
            try:
                if log:
                    last = trainer.done or decision == Decision.STOP
                    newest = config.checkpoints.save(trainer, last=last) or newest
                    schedule.saved(time.monotonic() - begin)
            except PipelineError as error:
                mistake = str(error)
            if trainer.agree(len(mistake)) != (0,):
                raise PipelineError(mistake)
        if decision == Decision.STOP and not trainer.done:
            return {"stopped": "on demand"}
    if log and (warning := trainer.one_class()):
        log.fact("one_class", warning)
    # The driver listens to the first worker alone; the others may be done before it has saved.
    return {"checkpoint": newest} if log else {}
