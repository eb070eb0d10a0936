"""Try the candidates on the very network and batch for a second or two, and take the fastest.

No rule predicts it: on one processor bf16 doubles the speed of residual networks and halves
that of depthwise ones, and small networks run best on fewer threads than there are cores.
"""

import copy
import time
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from torch.nn import functional

from pipeline.vision.networks import Classifier
from pipeline.vision.training.compute_config import ComputeConfig
from pipeline.vision.training.error_translation import explained

# A candidate is tried for this long, but for two steps at least.
_TRIAL_S = 0.25
# Rounding is only given up for a real gain.
_BF16_GAIN = 1.15
# Less than this is noise: the first candidate, the usual one, stays.
_GAIN = 1.03

StepTimer = Callable[[ComputeConfig], float]


def choose_compute(
    timer: StepTimer,
    *,
    precision: Literal["auto", "fp32", "bf16"],
    threads: int | Literal["auto"],
    most_threads: int,
) -> ComputeConfig:
    """Return the fastest way to compute among those that are asked for.

    Args:
        timer: seconds per step of a way.
        precision: as in params.yaml.
        threads: as in params.yaml.
        most_threads: the cores that this worker may use.
    """
    first_precision: Literal["fp32", "bf16"] = "bf16" if precision == "bf16" else "fp32"
    first_threads = most_threads if threads == "auto" else threads
    best = ComputeConfig(first_precision, first_threads, channels_last=False)
    best_s = timer(best)

    def challenge(challengers: Iterable[ComputeConfig], gain: float) -> None:
        nonlocal best, best_s
        for challenger in challengers:
            seconds = timer(challenger)
            if seconds * gain < best_s:
                # Perhaps the machine was only busy with something else before: once more.
                best_s = min(best_s, timer(best))
            if seconds * gain < best_s:
                best, best_s = challenger, seconds

    challenge([ComputeConfig(first_precision, first_threads, channels_last=True)], _GAIN)
    if precision == "auto":
        challenge(
            [ComputeConfig("bf16", first_threads, last) for last in (True, False)], _BF16_GAIN
        )
    if threads == "auto":
        fewer = most_threads // 2
        while fewer >= 1:
            before = best
            challenge([ComputeConfig(best.precision, fewer, best.channels_last)], _GAIN)
            if best is before:
                break
            fewer //= 2
    return best


def time_steps(
    network: Classifier, batch_shape: tuple[int, int, int, int], device: torch.device
) -> StepTimer:
    """Return a timer of training steps on a copy of `network` and a batch of noise.

    Args:
        network: as it will be trained: what is frozen stays so.
        batch_shape: rows of one worker's part, channels, height, width. Of one row, two are
            tried: batch norms may refuse one, which the training itself tells better.
        device: where to compute.
    """
    generator = torch.Generator().manual_seed(0)
    rows, *image_shape = batch_shape
    images = torch.rand((max(rows, 2), *image_shape), generator=generator).to(device)
    targets = torch.zeros(len(images), dtype=torch.int64, device=device)

    def timer(compute: ComputeConfig) -> float:
        with _threads(compute.threads), explained():
            twin = copy.deepcopy(network).to(device)
            twin.to(memory_format=compute.memory_format)  # type: ignore[call-overload]
            inputs = images.contiguous(memory_format=compute.memory_format)

            def step() -> None:
                with compute.autocast(device):
                    logits = twin(inputs)
                functional.cross_entropy(logits.float(), targets).backward()  # type: ignore[no-untyped-call]
                twin.zero_grad(set_to_none=True)

            return _fastest(step, device)

    return timer


def _fastest(step: Callable[[], None], device: torch.device) -> float:
    """Return the seconds of the fastest step, after one to warm up."""
    best, start = float("inf"), time.perf_counter()
    step()
    _wait(device)
    tried = 0
    while tried < 2 or time.perf_counter() - start < _TRIAL_S:
        before = time.perf_counter()
        step()
        _wait(device)
        best, tried = min(best, time.perf_counter() - before), tried + 1
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _threads:  # noqa: N801 - used like a function
    """Let torch use so many threads within a block."""

    def __init__(self, count: int) -> None:
        self._count, self._before = count, torch.get_num_threads()

    def __enter__(self) -> None:
        torch.set_num_threads(self._count)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._before)
