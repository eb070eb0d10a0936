import itertools
import json

import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.training import autotune
from pipeline.vision.training.autotune import Search, choose_compute, strays
from pipeline.vision.training.batches import Share
from pipeline.vision.training.building import build_trainer
from pipeline.vision.training.compute_config import ComputeConfig, supported
from tests.jobs import RECIPE, job_on

CPU = torch.device("cpu")
FP32, BF16 = (Arithmetic(precision, "channels_last") for precision in ("fp32", "bf16"))
FP32_FIRST, BF16_FIRST = (Arithmetic(precision) for precision in ("fp32", "bf16"))
LOSSES = [2.0 - 0.01 * step for step in range(1000)]


class Machine:
    """A clock, and steps that take as long on it as a table says."""

    def __init__(self, seconds, losses=None, warm_up=0.0):
        self.now, self.taken, self.open = 0.0, [], 0
        self._seconds, self._losses, self._warm_up = seconds, losses or {}, warm_up

    def steps(self, compute):
        self.open += 1
        try:
            for loss in self._losses.get(compute.arithmetic, LOSSES):
                took = self._seconds(compute, self.now)
                # The first step takes longer.
                self.now += took + (self._warm_up if loss == LOSSES[0] else 0.0)
                self.taken.append(compute)
                yield loss, took
        finally:
            self.open -= 1


def by_table(table):
    """Return the seconds of a step on as many threads: those of one candidate, and a factor."""
    return lambda compute, _: table[compute.arithmetic] * table.get(compute.threads, 1.0)


def search(machine, first=None, training_steps=1e6, **which):
    said = []
    found, record = Search(
        machine.steps,
        training_steps=training_steps,
        spent=lambda: machine.now,
        report=said.append,
    ).run(
        first or ComputeConfig(FP32, 4),
        **({"bf16": True, "threads": True, "memory_format": True} | which),
    )
    assert machine.open == 0
    assert said == [f"trying {ComputeConfig(*key)}" for key in unique(machine.taken)]
    json.dumps(record, allow_nan=False)
    return found, record


def unique(computes):
    return list(dict.fromkeys((compute.arithmetic, compute.threads) for compute in computes))


SPEEDS = {FP32_FIRST: 1.0, FP32: 0.8, BF16_FIRST: 0.9, BF16: 0.5}


@pytest.mark.parametrize(
    ("changes", "which", "expected"),
    [
        ({}, {}, ComputeConfig(BF16, 4)),
        ({BF16: 1.6}, {}, ComputeConfig(FP32, 4)),
        # a tenth is not worth the rounding
        ({BF16: 0.72}, {}, ComputeConfig(FP32, 4)),
        ({FP32_FIRST: 0.7, BF16: 2.0}, {}, ComputeConfig(FP32_FIRST, 4)),
        ({FP32_FIRST: 0.79, BF16: 2.0}, {}, ComputeConfig(FP32, 4)),
        ({BF16_FIRST: 0.4}, {}, ComputeConfig(BF16_FIRST, 4)),
        ({2: 0.5}, {}, ComputeConfig(BF16, 2)),
        ({2: 0.5, 1: 0.3}, {}, ComputeConfig(BF16, 1)),
        # a single thread would be quickest, but two are no gain over four: the search ends there
        ({2: 1.0, 1: 0.3}, {}, ComputeConfig(BF16, 4)),
        ({2: 0.5}, {"threads": False}, ComputeConfig(BF16, 4)),
        ({}, {"bf16": False}, ComputeConfig(FP32, 4)),
        ({FP32_FIRST: 0.1}, {"bf16": False, "memory_format": False}, ComputeConfig(FP32, 4)),
    ],
)
def test_the_fastest_way_is_chosen(changes, which, expected):
    machine = Machine(by_table(SPEEDS | changes))
    found, record = search(machine, **which)
    assert found == expected
    chosen = {"precision": expected.arithmetic.precision, "threads": expected.threads}
    assert record["chosen"] == chosen | {"memory_format": expected.arithmetic.memory_format}
    (taken,) = [one for one in record["candidates"] if one["verdict"] == "taken"]
    assert {key: taken[key] for key in record["chosen"]} == record["chosen"]
    if "bf16" in which:
        assert {compute.arithmetic.precision for compute in machine.taken} == {"fp32"}


def test_a_busy_moment_does_not_decide():
    """Four times as slow in its first steps, the usual way is timed again and stays."""

    def seconds(compute, now):
        return 4.0 if now < 12 else 1.0

    found, record = search(Machine(seconds), ComputeConfig(FP32, 2))
    assert found == ComputeConfig(FP32, 2)
    assert "not 1.15 times as fast" in record["candidates"][1]["verdict"]


def test_a_quiet_moment_does_not_decide_either():
    """A challenger must win when it is timed again, too."""

    def seconds(compute, now):
        return 0.1 if compute.arithmetic == BF16 and now < 4 else 1.0

    found, record = search(Machine(seconds), threads=False, memory_format=False)
    assert found == ComputeConfig(FP32, 4)
    assert "not 1.15 times as fast" in record["candidates"][1]["verdict"]


def test_a_busy_moment_of_the_faster_way_does_not_stick():
    """Slow in its first round and fast in two more, it is taken."""

    def seconds(compute, now):
        if compute.arithmetic != BF16:
            return 1.0
        return 1.5 if now < 9 else 0.5

    found, _ = search(Machine(seconds), threads=False, memory_format=False)
    assert found == ComputeConfig(BF16, 4)


@pytest.mark.parametrize("training_steps", [100, 400, 700, 2000, 10**5])
@pytest.mark.parametrize("bf16", [0.4, 1.0, 3.0])
def test_the_budget_is_kept(training_steps, bf16):
    """After the first two steps nothing begins that would go beyond 3 %."""
    machine = Machine(by_table(SPEEDS | {FP32: 1.0, BF16: bf16}))
    _, record = search(machine, training_steps=training_steps)
    # A step of bf16 may be longer than expected, but only the first.
    assert machine.now <= max(0.03 * training_steps + max(bf16 - 1.0, 0.0), 2.0) + 1e-9
    assert record["spent_s"] == pytest.approx(machine.now, abs=1e-3)
    assert record["training_s"] == pytest.approx(training_steps)


def test_without_time_for_another_the_first_is_kept():
    machine = Machine(by_table(SPEEDS))
    found, record = search(machine, training_steps=100)
    assert found == ComputeConfig(FP32, 4)
    assert record["reason"] == "the time for the trial was spent"
    assert len(machine.taken) <= 4


def test_the_time_to_warm_up_counts():
    machine = Machine(by_table(SPEEDS), warm_up=100.0)
    found, _ = search(machine, training_steps=2000)
    assert found == ComputeConfig(FP32, 4)
    assert len(machine.taken) == 2


def test_the_decisive_steps_are_enough_to_take_bf16():
    steps = autotune._DECISIVE_STEPS / autotune._BUDGET
    found, _ = search(Machine(by_table(SPEEDS | {BF16: 0.6})), training_steps=steps)
    assert found.arithmetic == BF16


def test_bf16_whose_losses_stray_is_not_taken():
    losses = [loss * (1.06 if step == 2 else 1.0) for step, loss in enumerate(LOSSES)]
    machine = Machine(by_table(SPEEDS), {BF16: losses})
    found, record = search(machine, threads=False, memory_format=False)
    assert found == ComputeConfig(FP32, 4)
    verdict = record["candidates"][1]["verdict"]
    assert verdict == "its loss at step 3 is 2.099, in fp32 1.98"
    assert record["candidates"][1]["losses"][:3] == losses[:3]


@pytest.mark.parametrize(
    ("losses", "reference", "found"),
    [
        ([2.0, 1.0], [2.09, 1.04], None),
        ([2.0, 1.0], [2.0, 1.06], "its loss at step 2 is 1, in fp32 1.06"),
        ([0.001], [0.020], None),
        ([0.001], [0.022], "its loss at step 1 is 0.001, in fp32 0.022"),
        ([float("nan")], [1.0], "its loss at step 1 is nan, in fp32 1"),
        ([float("inf")], [1.0], "its loss at step 1 is inf, in fp32 1"),
        # one loss that strays late does not matter, if the mean follows
        ([1.0] * 9 + [1.2], [1.0] * 10, None),
        ([1.0] * 5 + [1.2] * 5, [1.0] * 10, "its losses are 1.1 in the mean, in fp32 1"),
        # what one has more is left out
        ([1.0] * 6, [1.0] * 6 + [9.0], None),
    ],
)
def test_losses_that_follow_and_losses_that_stray(losses, reference, found):
    assert strays(losses, reference) == found


def test_a_way_that_fails_is_not_taken():
    def steps(compute):
        if compute.arithmetic == BF16:
            raise PipelineError("the device has too little memory for a step")
        yield from ((1.0, 1.0) for _ in itertools.count())

    run = {"bf16": True, "threads": False, "memory_format": False}
    ticks = itertools.count()
    one = Search(steps, training_steps=1e6, spent=lambda: next(ticks), report=print)
    found, record = one.run(ComputeConfig(FP32, 1), **run)
    assert found == ComputeConfig(FP32, 1)
    assert record["candidates"][1]["verdict"] == (
        "failed: the device has too little memory for a step"
    )


def test_a_first_way_that_fails_leaves_the_message_to_the_training():
    def steps(_):
        raise PipelineError("the device has too little memory for a step")
        yield

    one = Search(steps, training_steps=1e6, spent=lambda: 0.0, report=print)
    found, record = one.run(ComputeConfig(FP32, 1), bf16=True, threads=True, memory_format=True)
    assert found == ComputeConfig(FP32, 1)
    assert record["reason"].startswith("the trial failed: the device has too little memory")


def recipe(**changes):
    values = RECIPE.model_dump(mode="json") | {"epochs": 100, "global_batch_size": 15} | changes
    return type(RECIPE).model_validate(values, strict=False)


def choose(job, share=None, **changes):
    how = {"threads": 1, "most_threads": 2} | changes
    return choose_compute(job, share or Share(), CPU, **how)


MIXED = {"mixup_alpha": 0.5, "augment": [{"hflip": {"p": 0.5}}], "ema_decay": 0.9, "accumulate": 2}


@pytest.mark.parametrize(
    ("network", "changes", "share"),
    [
        ("lenet5", MIXED, Share()),
        ("lenet5", {"mixup_alpha": 0.3}, Share(0, 3)),
        ("resnet20", {"trainable": "gradual", "weights": "elsewhere"}, Share()),
        ("resnet20", {"trainable": "head", "weights": "elsewhere", "epochs": 2}, Share()),
    ],
)
def test_a_trial_takes_the_steps_of_the_training_and_leaves_no_trace(
    sets, monkeypatch, network, changes, share
):
    monkeypatch.setattr(autotune, "_BUDGET", 1e9)  # else too few steps in all
    monkeypatch.setattr(autotune, "_TIMED_S", 0.0)
    job = job_on(sets, recipe(precision="fp32", **changes), network)
    before, state, threads = vars(job).copy(), torch.get_rng_state(), torch.get_num_threads()
    said = []
    found, record = choose(job, share, threads="auto", report=said.append)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert {name: vars(job)[name] for name in before} == before
    assert said[0] == "trying fp32, channels last, 2 threads"
    assert len(said) == len(record["candidates"])
    assert found.threads in (1, 2)
    if share.workers == 1 and changes == MIXED:
        trainer = build_trainer(job, Share(), CPU, ComputeConfig(FP32, 2))
        trainer.advance(3)
        losses = trainer._losses[:3].tolist()
        assert record["candidates"][0]["losses"][:3] == pytest.approx(losses, rel=1e-6)


def test_a_small_training_is_tried_on_a_part_of_its_batches(sets, monkeypatch):
    monkeypatch.setattr(autotune, "_BUDGET", 6 / 600)  # six steps of 600
    job = job_on(sets, recipe(precision="fp32"))
    seen, taken, build = [], [], autotune.Trial

    def watched(*arguments):
        trial = build(*arguments)
        seen.append(trial._recipe.global_batch_size)
        steps = trial.steps

        def timed(compute):
            for loss, seconds in steps(compute):
                taken.append(seconds)
                yield loss, seconds

        trial.steps = timed
        return trial

    monkeypatch.setattr(autotune, "Trial", watched)
    _, record = choose(job)
    assert seen == [7]  # half of 15
    # Estimated from the first step that is not the first of all.
    assert record["training_s"] == pytest.approx(1200 * taken[1])


def test_a_training_of_few_steps_gets_no_trial(sets, monkeypatch):
    monkeypatch.setattr(autotune, "Trial", None)
    for precision, expected in (("auto", FP32), ("fp32", FP32), ("bf16", BF16)):
        monkeypatch.setattr(autotune, "supported", lambda *_: None)
        job = job_on(sets, recipe(epochs=3, precision=precision))
        found, record = choose(job, threads="auto")
        assert found == ComputeConfig(expected, 2)
        assert record["reason"] == "18 steps are too few for a trial"
        assert record["candidates"] == []
        json.dumps(record)


@pytest.mark.parametrize(
    ("known", "precision", "kept"),
    [
        (BF16_FIRST, "auto", True),
        (BF16_FIRST, "bf16", True),
        (FP32_FIRST, "fp32", True),
        (FP32_FIRST, "bf16", False),
        (BF16_FIRST, "fp32", False),
    ],
)
def test_what_was_chosen_before_is_kept_where_it_is_as_asked(
    sets, monkeypatch, known, precision, kept
):
    monkeypatch.setattr(autotune, "supported", lambda *_: None)
    job = job_on(sets, recipe(epochs=3, precision=precision))
    found, record = choose(job, known=known)
    assert (found.arithmetic == known) == kept
    assert (record["reason"] == "known before") == kept


def test_what_was_chosen_before_is_chosen_again_where_it_is_impossible(sets, monkeypatch):
    reasons = {BF16: "this processor has no bf16 arithmetic"}
    monkeypatch.setattr(autotune, "supported", lambda arithmetic, _: reasons.get(arithmetic))
    found, _ = choose(job_on(sets, recipe(epochs=3)), known=BF16)
    assert found.arithmetic == FP32


def test_a_precision_that_is_impossible_is_an_error(sets, monkeypatch):
    monkeypatch.setattr(autotune, "supported", lambda *_: "this processor has no bf16 arithmetic")
    with pytest.raises(
        PipelineError, match=r"bf16 is impossible here: this processor .*; set auto or fp32"
    ):
        choose(job_on(sets, recipe(precision="bf16")))


def test_what_is_possible(monkeypatch):
    assert supported(FP32, CPU) is None
    for flag, expected in ((True, None), (False, "this processor has no bf16 arithmetic")):
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda flag=flag: flag)
        found = supported(BF16, CPU)
        assert found is None if expected is None else found.startswith(expected)


def test_a_way_in_words():
    assert str(ComputeConfig(BF16, 1)) == "bf16, channels last, 1 thread"
    assert str(ComputeConfig(FP32_FIRST, 2)) == "fp32, channels first, 2 threads"
