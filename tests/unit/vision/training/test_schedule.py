import math

import pytest
import torch

from pipeline.params.choices.training import ConstantRate, CosineRate, OneCycleRate, StepRate
from pipeline.vision.training.schedule import learning_rate, multiplier


def rates(schedule, steps=10, steps_per_epoch=2, peak=0.8):
    return [
        learning_rate(
            step, steps=steps, steps_per_epoch=steps_per_epoch, schedule=schedule, peak=peak
        )
        for step in range(steps)
    ]


def constant(warmup_epochs=2.0):
    return ConstantRate(name="constant", warmup_epochs=warmup_epochs)


def cosine(warmup_epochs=2.0):
    return CosineRate(name="cosine", warmup_epochs=warmup_epochs)


def stepwise(milestones, factor=0.1, warmup_epochs=0.0):
    return StepRate(name="step", warmup_epochs=warmup_epochs, milestones=milestones, factor=factor)


def torch_rates(build, steps, peak):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], peak)
    schedule, taken = build(optimizer), []
    for step in range(steps):
        taken.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < steps - 1:
            schedule.step()
    return taken


@pytest.mark.parametrize("schedule", [constant(), cosine(), stepwise((0.9,), warmup_epochs=2.0)])
def test_warm_up_rises_in_equal_steps_to_the_peak(schedule):
    assert rates(schedule)[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])


def test_constant_stays():
    assert rates(constant())[4:] == [0.8] * 6
    assert rates(constant(0.0)) == [0.8] * 10


def test_warm_up_may_take_parts_of_an_epoch_or_all_of_the_training():
    assert rates(constant(0.5), steps_per_epoch=4)[:3] == pytest.approx([0.4, 0.8, 0.8])
    assert rates(cosine(10.0)) == pytest.approx([0.04 * k for k in range(1, 11)])


def test_cosine_by_hand():
    after = [0.4 * (1 + math.cos(math.pi * k / 6)) for k in range(6)]
    assert rates(cosine())[4:] == pytest.approx(after)
    assert rates(cosine(0.0))[0] == pytest.approx(0.8)


def test_step_by_hand():
    assert rates(stepwise((0.5, 0.7))) == pytest.approx([0.8] * 5 + [0.08] * 2 + [0.008] * 3)
    assert rates(stepwise(())) == [0.8] * 10


def test_step_is_torchs_multi_step():
    def build(optimizer):
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, [29, 55, 57], 0.3)

    # 100 * 0.29, 0.55 and 0.57 all miss the whole number by a rounding.
    own = rates(stepwise((0.29, 0.55, 0.57), 0.3), steps=100)
    assert own == pytest.approx(torch_rates(build, 100, 0.8))


# Some for which the top falls between two steps.
@pytest.mark.parametrize(("steps", "rise"), [(100, 0.3), (37, 0.3), (10, 0.25), (8, 0.9)])
def test_one_cycle_is_torchs(steps, rise):
    def build(optimizer):
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 0.8, total_steps=steps, pct_start=rise, cycle_momentum=False
        )

    own = rates(OneCycleRate(name="one_cycle", rise=rise), steps=steps)
    assert own == pytest.approx(torch_rates(build, steps, 0.8), rel=1e-9)
    assert own[0] == pytest.approx(0.8 / 25)
    assert own[-1] == pytest.approx(0.8 / 25 / 1e4)


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@pytest.mark.parametrize("rise", [0.01, 0.5, 0.99])
def test_one_cycle_of_few_steps_stays_in_range(steps, rise):
    own = rates(OneCycleRate(name="one_cycle", rise=rise), steps=steps, peak=1.0)
    assert all(1 / 25 / 1e4 * 0.99 <= rate <= 1 for rate in own)


def test_a_rate_is_the_peak_times_a_multiplier():
    schedule = cosine()
    shares = [
        multiplier(step, steps=10, steps_per_epoch=2, schedule=schedule) for step in range(10)
    ]
    assert rates(schedule, peak=3.0) == pytest.approx([3.0 * share for share in shares])
    assert max(shares) == 1.0
