"""What runs in each worker: build the trainer, go on from the newest checkpoint, train."""

import time
from contextlib import nullcontext
from dataclasses import dataclass
from uuid import uuid4

import torch
from torch.backends.cpu import get_cpu_capability

from pipeline.errors import PipelineError
from pipeline.runtime.ray.group import loopback_group
from pipeline.runtime.ray.worker_config import WorkerConfig
from pipeline.runtime.session.checkpoint_store import (
    checkpoints,
    go_back_to,
    newest_checkpoint,
    save_checkpoint,
)
from pipeline.runtime.session.compute_cache import remembered
from pipeline.runtime.session.event_log import EventLog
from pipeline.runtime.session.memory import peak_memory
from pipeline.runtime.session.sync_schedule import Decision, SyncSchedule
from pipeline.runtime.session.system_metrics import sampling
from pipeline.vision.training.autotune import choose_compute
from pipeline.vision.training.batches import Share
from pipeline.vision.training.compute_config import ComputeConfig
from pipeline.vision.training.memory import keep_freed_memory
from pipeline.vision.training.trainer import Trainer


def train(order: WorkerConfig) -> dict[str, str]:
    """Train to the end, or until the driver asks to stop.

    Returns:
        'checkpoint': the last one (by the first worker); or 'stopped'; or 'error': a mistake of
        the user, which is returned because raising it would mean a restart.
    """
    import ray.train
    import ray.train.torch

    keep_freed_memory()
    context = ray.train.get_context()
    share = Share(context.get_world_rank(), context.get_world_size())
    device = ray.train.torch.get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)  # where NCCL, and whatever names no device, will work
    try:
        start = _agree_on_start(order, share, device)
        torch.set_num_threads(start.compute.threads)
        meet = share.workers > 1 and order.loopback
        meeting = order.folder.path / f"meeting-{start.meeting}"
        watches = order.samples_load and context.get_local_rank() == 0
        with (
            loopback_group(share, meeting, device) if meet else nullcontext(),
            sampling(order.folder.load, context.get_node_rank()) if watches else nullcontext(),
        ):
            trainer = _build_together(order, share, device, start)
            diary = _open_diary(order, trainer, start, share) if share.rank == 0 else None
            return _train(trainer, order, diary, device)
    except PipelineError as error:
        return {"error": str(error)}


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


def _agree_on_start(order: WorkerConfig, share: Share, device: torch.device) -> _Start:
    """Have the first worker say from which checkpoint, where and how to start."""
    from ray.train.collective import broadcast_from_rank_zero

    start, mistake = None, None
    if share.rank == 0:
        try:
            checkpoint = newest_checkpoint(order.folder.checkpoints)
            go_back_to(checkpoint, order.folder.checkpoints)
            compute = _choose_compute(order, share, device)
            start = _Start(checkpoint.name if checkpoint else "", uuid4().hex, compute)
        except PipelineError as error:
            mistake = str(error)
    if share.workers > 1:
        start, mistake = broadcast_from_rank_zero((start, mistake))
    if start is None:
        raise PipelineError(mistake)
    return start


def _build_together(
    order: WorkerConfig, share: Share, device: torch.device, start: _Start
) -> Trainer:
    """Build this worker's trainer; what one worker cannot do, none goes on with.

    Raises:
        PipelineError: on all workers, what the first that failed found.
    """
    trainer, mistakes = None, [""] * share.workers
    try:
        trainer = order.job.build(share, device, start.compute)
        if start.checkpoint:
            trainer.restore(order.folder.checkpoints / start.checkpoint)
    except PipelineError as error:
        mistakes[share.rank] = str(error)
    if share.workers > 1:
        torch.distributed.all_gather_object(mistakes, mistakes[share.rank])
    if trainer is None or any(mistakes):
        raise PipelineError(next(filter(None, mistakes)))
    return trainer


def _choose_compute(order: WorkerConfig, share: Share, device: torch.device) -> ComputeConfig:
    """Choose by trial, or as the last time that it was asked for."""
    job, recipe, on_gpu = order.job, order.job.recipe, device.type == "cuda"
    question = {
        "network": [job.network, job.args, job.training_set.info.shape],
        "batch": [recipe.global_batch_size, recipe.accumulate, recipe.trainable],
        "asked": [recipe.precision, order.threads, order.cores],
        "device": torch.cuda.get_device_name(device) if on_gpu else get_cpu_capability(),
        "torch": torch.__version__,
    }
    return remembered(
        order.folder.choices,
        question,
        lambda: choose_compute(job, share, device, threads=order.threads, most_threads=order.cores)[
            0
        ],
    )


def _open_diary(order: WorkerConfig, trainer: Trainer, start: _Start, share: Share) -> EventLog:
    """Start the driver's news: the epochs that are done already, and how this goes on."""
    progress = trainer.state
    diary = EventLog(order.folder.diary, progress.history)
    workers = "1 worker" if share.workers == 1 else f"{share.workers} workers"
    diary.fact("compute", f"{workers}, {start.compute}")
    if start.checkpoint:
        where = f"epoch {progress.epochs_done + 1}, step {progress.steps_done + 1}"
        diary.fact("resumed", f"goes on from {where}")
    elif order.job.weights:
        _, loaded = order.job.build_network()
        diary.fact("loaded", f"from {order.job.recipe.weights}: {loaded}")
    return diary


def _train(
    trainer: Trainer, order: WorkerConfig, diary: EventLog | None, device: torch.device
) -> dict[str, str]:
    """Train until it is done or stopped; only the first worker has a diary."""
    schedule, steps = SyncSchedule(order.checkpoint_interval_s), 1
    while not trainer.done:
        record = trainer.advance(steps)
        # Looking up together costs the workers a message each, so that they do it about once a
        # second, all after the same step.
        mine = (0, 0)
        if diary:
            if record:
                # Beside the record: the history is that of the same training on any machine.
                diary.record(record | peak_memory(device))
            else:
                diary.epoch_progress(trainer.epoch_progress())
            mine = schedule.decide(order.folder.stop.exists())
        decision, steps = trainer.agree(*mine)
        if decision != Decision.GO_ON or trainer.done:
            # All workers: one that found it alone would leave the others waiting.
            trainer.check_finite()
            if diary:
                begin = time.monotonic()
                save_checkpoint(trainer, order.folder.checkpoints)
                schedule.saved(time.monotonic() - begin)
        if decision == Decision.STOP and not trainer.done:
            return {"stopped": "on demand"}
    # The driver listens to the first worker alone; the others may be done before it has saved.
    return {"checkpoint": str(checkpoints(order.folder.checkpoints)[0])} if diary else {}
