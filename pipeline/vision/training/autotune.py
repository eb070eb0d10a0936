"""Choose precision, memory order and threads by a short trial of the very training.

No rule predicts the fastest: on one processor bf16 more than halves the time of plain and residual
networks and doubles that of depthwise ones, and small networks run best on fewer threads than
there are cores. Milliseconds per step on two cores with AMX (lenet5: 64 images of 28 px, resnet20:
64 of 32 px, squeezenet1_0: 32 of 128 px, mobilenet_v3_small: 32 of 96 px):

                                  lenet5  resnet20  squeezenet1_0  mobilenet_v3_small
    fp32, channels first             4.0       130            434                 119
    fp32, channels last              3.5       105            323                  85
    bf16, channels first             3.6        67            271                 158
    bf16, channels last              3.2        58            133                 163
    fp32, channels last, 1 thread    5.4       194            519                 135

So channels last in fp32 on all threads is what a processor begins with and keeps without a trial.
"""

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch

from pipeline.errors import PipelineError
from pipeline.vision.bundle.arithmetic import Arithmetic, MemoryFormat, Precision
from pipeline.vision.training.batches import Share
from pipeline.vision.training.compute_config import ComputeConfig, supported
from pipeline.vision.training.job import Job
from pipeline.vision.training.trial import Trial, batch_rows, training_steps

# Of the time that the training takes.
_BUDGET = 0.03
# Steps of the first candidate that decide on bf16: each of both is warmed up by one step and timed
# in two, and in two more.
_DECISIVE_STEPS = 12
# Parts of batches with fewer images say little of whole ones.
_FEWEST_ROWS = 4
_TIMED_STEPS = 2
# To win or to lose.
_ROUNDS = 2
# So many times as slow in one round, another one would not show the opposite.
_HOPELESS = 2.0
# Or longer, as far as the budget lasts, for this time.
_TIMED_S = 0.25
# Rounding is only given up for a real gain.
_BF16_GAIN = 1.15
# Less than this is noise.
_GAIN = 1.03
# A loss of bf16 follows that of fp32 if it differs by at most this part of it, or this much.
_RELATIVE = 0.05
_NATS = 0.02
# As many as a candidate has that is taken.
_COMPARED_STEPS = 1 + _ROUNDS * _TIMED_STEPS

_BF16 = Arithmetic("bf16")
_OTHER: dict[MemoryFormat, MemoryFormat] = {
    "channels_last": "contiguous_format",
    "contiguous_format": "channels_last",
}

Step = tuple[float, float]  # loss, seconds
Report = Callable[[str], None]
Record = dict[str, Any]


def choose_compute(
    job: Job,
    share: Share,
    device: torch.device,
    *,
    threads: int | Literal["auto"],
    most_threads: int,
    known: Arithmetic | None = None,
    report: Report | None = None,
) -> tuple[ComputeConfig, Record]:
    """Return how to compute a training, and what that was chosen from.

    The trial takes at most 3 % of the training's time. It leaves nothing behind: weights, global
    generators and numbers of threads are what they were.

    Args:
        job: the training. Its precision is kept to, unless it is 'auto'.
        share: this worker's.
        device: that computes.
        threads: as in params.yaml.
        most_threads: the cores that this worker may use.
        known: chosen before for this training: kept, if it is possible here and as `job` asks.
        report: gets a line before each candidate is tried.

    Returns:
        The choice, and JSON values: "chosen", "reason", "training_s" (an estimate, None without a
        trial), "spent_s", and "candidates", each with "seconds_per_step" (of the fastest step
        after the first), "losses" of all steps and a "verdict".

    Raises:
        PipelineError: the precision that `job` asks for is impossible here; or see
            `Job.build_network`.
    """
    asked = job.recipe.precision
    if known and (asked not in ("auto", known.precision) or supported(known, device)):
        known = None
    if asked == "bf16" and (impossible := supported(_BF16, device)):
        raise PipelineError(
            f"{job.stage}.precision: bf16 is impossible here: {impossible}; set auto or fp32"
        )
    first = ComputeConfig(
        known or _untried("bf16" if asked == "bf16" else "fp32", device),
        most_threads if threads == "auto" else threads,
    )
    steps = training_steps(job)
    # So small a part of each batch that the budget lasts for the decisive steps.
    part = min(1.0, _BUDGET * steps / _DECISIVE_STEPS)
    parts = share.workers * job.recipe.accumulate
    if known and (threads != "auto" or most_threads == 1):
        return first, record(first, "known before")
    if part < 1 and batch_rows(job) * part < _FEWEST_ROWS * parts:
        return first, record(first, f"{steps:.0f} steps are too few for a trial")
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        trial = Trial(job, share, device, part)
        begin = time.perf_counter()  # what the network imports, the training needs as well
        search = Search(
            trial.steps,
            training_steps=steps / part,
            spent=lambda: time.perf_counter() - begin,
            report=report or (lambda _: None),
        )
        return search.run(
            first,
            bf16=known is None and asked == "auto" and not supported(_BF16, device),
            threads=threads == "auto",
            memory_format=known is None,
        )


def _untried(precision: Precision, device: torch.device) -> Arithmetic:
    """Return what is mostly fastest in a precision."""
    first = device.type == "cuda" and precision == "fp32"
    return Arithmetic(precision, "contiguous_format" if first else "channels_last")


@dataclass
class Candidate:
    """One way to compute, and what its steps showed.

    Attributes:
        compute: the way.
        steps: go on where the last call left off.
        seconds: of the fastest step but for the first.
        losses: of all steps.
        verdict: why it was taken or not.
    """

    compute: ComputeConfig
    steps: Generator[Step]
    seconds: float = math.inf
    losses: list[float] = field(default_factory=list)
    verdict: str = "the time for the trial was spent"


class _BudgetSpentError(Exception):
    """The next step would take the trial over its budget."""


class Search:
    """Looks for the fastest way to compute, within a budget."""

    def __init__(
        self,
        begin: Callable[[ComputeConfig], Generator[Step]],
        *,
        training_steps: float,
        spent: Callable[[], float],
        report: Report,
    ) -> None:
        """Prepare a search.

        Args:
            begin: returns the steps of a way to compute, each a loss and its seconds.
            training_steps: that take as long as the training.
            spent: returns the seconds that the search has taken.
            report: gets a line before each candidate.
        """
        self._begin, self._training_steps = begin, training_steps
        self._spent, self._report = spent, report
        self._budget_s = math.inf
        self._tried: list[Candidate] = []

    def run(
        self, first: ComputeConfig, *, bf16: bool, threads: bool, memory_format: bool
    ) -> tuple[ComputeConfig, Record]:
        """Try what may be tried, the most promising first.

        Args:
            first: is kept unless another one is faster.
            bf16: whether to try it; `first` is in fp32 then.
            threads: whether to try fewer.
            memory_format: whether to try the other one.

        Returns:
            See `choose_compute`.
        """
        self._best = self._enter(first)
        try:
            self._try_all(bf16, threads, memory_format)
            reason = f"the fastest of {len(self._tried)} tried"
        except _BudgetSpentError:
            reason = "the time for the trial was spent"
        except (PipelineError, RuntimeError) as error:  # which the training will meet, too
            reason = f"the trial failed: {error}"
        finally:
            for candidate in self._tried:
                candidate.steps.close()
        self._best.verdict = "taken"
        return self._best.compute, self._record(reason)

    def _try_all(self, bf16: bool, threads: bool, memory_format: bool) -> None:
        first = self._best
        self._take(first)  # it allocates memory and chooses kernels
        first.seconds = self._take(first)
        self._budget_s = _BUDGET * self._training_steps * first.seconds
        self._time(first, steps=_TIMED_STEPS - 1)
        if bf16:
            self._challenge(_with(self._best.compute, precision="bf16"), _BF16_GAIN)
        while threads and self._best.compute.threads > 1:
            fewer = replace(self._best.compute, threads=self._best.compute.threads // 2)
            if not self._challenge(fewer, _GAIN):
                break
        if memory_format:
            other = _OTHER[self._best.compute.arithmetic.memory_format]
            self._challenge(_with(self._best.compute, memory_format=other), _GAIN)

    def _enter(self, compute: ComputeConfig) -> Candidate:
        self._report(f"trying {compute}")
        self._tried.append(Candidate(compute, self._begin(compute)))
        return self._tried[-1]

    def _challenge(self, compute: ComputeConfig, gain: float) -> bool:
        """Take a way to compute if it is `gain` times as fast as the best so far, and right."""
        if self._spent() + (1 + _TIMED_STEPS) * self._best.seconds > self._budget_s:
            raise _BudgetSpentError
        challenger = self._enter(compute)
        refused = self._refuse(challenger, gain)
        loser = challenger if refused else self._best
        loser.verdict = refused or f"slower than {compute}"
        loser.steps.close()  # it holds a network
        if not refused:
            self._best = challenger
        return not refused

    def _refuse(self, challenger: Candidate, gain: float) -> str | None:
        """Return why a challenger is not taken, None if it is."""
        best, slow = self._best, f"not {gain:g} times as fast as {self._best.compute}"
        try:
            self._take(challenger)
            # In turns, and the best of three: the machine may be busy with something else.
            rounds: list[bool] = []
            while max(rounds.count(True), rounds.count(False)) < _ROUNDS:
                seconds, usual = self._time(challenger), self._time(best)
                if seconds > _HOPELESS * usual:
                    return slow
                rounds.append(seconds * gain <= usual)
            if rounds.count(False) == _ROUNDS:
                return slow
        except (PipelineError, RuntimeError) as error:
            return f"failed: {error}"
        if challenger.compute.arithmetic.precision == best.compute.arithmetic.precision:
            return None
        return strays(challenger.losses, best.losses)

    def _time(self, candidate: Candidate, steps: int = _TIMED_STEPS) -> float:
        """Take `steps` steps or more, and return the seconds of the fastest."""
        begin, fastest = self._spent(), math.inf
        until = begin + min(_TIMED_S, self._budget_s / _DECISIVE_STEPS)
        while steps > 0 or self._spent() < until:
            fastest = min(fastest, self._take(candidate))
            steps -= 1
        candidate.seconds = min(candidate.seconds, fastest)
        return fastest

    def _take(self, candidate: Candidate) -> float:
        """Take a step, if the budget allows for it, and return its seconds."""
        expected = min(candidate.seconds, self._best.seconds)  # infinite before the first is timed
        if math.isfinite(expected) and self._spent() + expected > self._budget_s:
            raise _BudgetSpentError
        loss, seconds = next(candidate.steps)
        candidate.losses.append(loss)
        return seconds

    def _record(self, reason: str) -> Record:
        estimated = math.isfinite(self._budget_s)
        return record(
            self._best.compute,
            reason,
            training_s=self._budget_s / _BUDGET if estimated else None,
            spent_s=self._spent(),
            candidates=self._tried,
        )


def strays(losses: Sequence[float], reference: Sequence[float]) -> str | None:
    """Return where losses do not follow those of the reference by 5 % or 0.02; None if they do.

    Each of the first 5 must follow, and the mean of all. Later ones differ by chance: a rounding
    that is coarser, or merely another one, leads to other weights.

    Measured from random weights with batches of 8 to 64 images, AdamW and SGD with and without
    warm-up: where the loss falls in fp32, the first 4 losses of bf16 differed by 0.01 to 1.1 %
    (lenet5, resnet20, squeezenet1_0, mobilenet_v3_small) and by 3.5 % at most (resnet18, batches
    of 8); where the rate is too high, by 4 to 14 %, and some steps later by a multiple. By the 8th
    step even fp32 in another memory order differed by 0 to 7 %, for densenet121 by 5 to 25 %.

    Args:
        losses: one per step.
        reference: of the same steps in fp32; what one has more is left out.
    """
    common = min(len(losses), len(reference))
    found, expected = np.array(losses[:common]), np.array(reference[:common])
    for step in range(min(_COMPARED_STEPS, common)):
        if not _follows(found[step], expected[step]):
            return f"its loss at step {step + 1} is {found[step]:.4g}, in fp32 {expected[step]:.4g}"
    if not _follows(found.mean(), expected.mean()):
        return f"its losses are {found.mean():.4g} in the mean, in fp32 {expected.mean():.4g}"
    return None


def _follows(loss: float, expected: float) -> bool:
    return abs(loss - expected) <= max(_RELATIVE * abs(expected), _NATS)


def record(
    chosen: ComputeConfig,
    reason: str,
    training_s: float | None = None,
    spent_s: float = 0.0,
    candidates: Sequence[Candidate] = (),
) -> Record:
    """Return JSON values, see `choose_compute`."""
    return {
        "chosen": _values(chosen),
        "reason": reason,
        "training_s": training_s,
        "spent_s": round(spent_s, 3),
        "candidates": [
            {
                **_values(candidate.compute),
                "seconds_per_step": candidate.seconds if candidate.seconds < math.inf else None,
                "losses": candidate.losses,
                "verdict": candidate.verdict,
            }
            for candidate in candidates
        ],
    }


def _values(compute: ComputeConfig) -> dict[str, Any]:
    return {**asdict(compute.arithmetic), "threads": compute.threads}


def _with(compute: ComputeConfig, **changes: Any) -> ComputeConfig:
    return replace(compute, arithmetic=replace(compute.arithmetic, **changes))
