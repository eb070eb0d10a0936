import math

import numpy as np
import pytest

from pipeline.vision.inspection.lr_range import (
    Point,
    lowest_point,
    range_test,
    rising_rates,
    suggest,
)


def curve(losses):
    """Run a range test, from 1e-6 to 1, whose losses are given."""
    rates = rising_rates(1e-6, 1.0, len(losses))
    return list(range_test(rates, dict(zip(rates, losses, strict=True)).__getitem__))


def bowl(steps, turn):
    """Flat at 2, falling to 1 at the rate `turn`, rising to 3 at the rate 1."""
    rates = np.log10(rising_rates(1e-6, 1.0, steps))
    return np.interp(rates, [-6.0, -4.0, math.log10(turn), 0.0], [2.0, 2.0, 1.0, 3.0])


def test_each_rate_is_the_same_multiple_of_the_one_before():
    rates = rising_rates(1e-6, 1.0, 7)
    assert rates == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0])


def test_steps_are_taken_at_the_rates_in_order():
    seen = []
    points = list(range_test([0.1, 0.2, 0.4], lambda rate: seen.append(rate) or 1.0))
    assert seen == [0.1, 0.2, 0.4]
    assert points == [Point(rate, 1.0, 1.0) for rate in seen]


def test_smoothing_by_hand():
    """20 steps look back over 2: each average is a half of the last and a half of the loss."""
    losses = [4.0, 1.0, 2.0] + [2.0] * 17
    points = curve(losses)
    # Weights 1/2, 1/4, 1/8 from the newest back, over their sum.
    assert points[0].smoothed == pytest.approx(4.0)
    assert points[1].smoothed == pytest.approx((1.0 / 2 + 4.0 / 4) / (1 / 2 + 1 / 4))
    assert points[2].smoothed == pytest.approx((2.0 / 2 + 1.0 / 4 + 4.0 / 8) / (7 / 8))


def test_ten_steps_are_not_smoothed():
    losses = [3.0, 2.0, 4.0, 1.0, 2.0, 1.0, 3.0, 2.0, 1.5, 2.5]
    assert [point.smoothed for point in curve(losses)] == losses


def test_it_stops_after_four_times_the_lowest():
    losses = [1.0, 0.5, 1.9, 2.0, 2.1, 9.0, 9.0, 9.0, 9.0, 9.0]
    assert [point.loss for point in curve(losses)] == [1.0, 0.5, 1.9, 2.0, 2.1]


@pytest.mark.parametrize("end", [math.nan, math.inf, -math.inf])
def test_it_stops_before_a_loss_that_is_not_finite(end):
    assert [point.loss for point in curve([1.0, 0.9, end] + [1.0] * 7)] == [1.0, 0.9]
    assert curve([end] * 10) == []


@pytest.mark.parametrize("steps", [30, 60, 100, 300])
@pytest.mark.parametrize("turn", [1e-3, 1e-2])
def test_the_suggestion_is_a_tenth_of_the_rate_at_the_lowest_loss(steps, turn):
    points = curve(bowl(steps, turn))
    lowest = lowest_point(points, steps)
    assert lowest.smoothed == min(point.smoothed for point in points)
    assert suggest(lowest) == lowest.rate / 10
    # The average lags by a tenth of the six decades, at most.
    assert turn / 3 < lowest.rate < 5 * turn


def test_noise_does_not_hide_a_clear_fall():
    rng = np.random.default_rng(0)
    losses = bowl(100, 1e-2) + rng.normal(0, 0.1, 100)
    assert 3e-3 < lowest_point(curve(losses), 100).rate < 5e-2


@pytest.mark.parametrize("steps", [20, 100, 300])
def test_noise_alone_is_rarely_taken_for_a_fall(steps):
    draws = 1.0 + np.random.default_rng(0).normal(0, 0.1, (200, steps))
    found = sum(lowest_point(curve(losses), steps) is not None for losses in draws)
    assert found / len(draws) < 0.1


@pytest.mark.parametrize(
    "losses",
    [
        np.linspace(1.0, 3.9, 100),  # rises from the start
        np.ones(100),  # stands still
        [1.0, 5.0, 9.0] + [9.0] * 97,  # diverges before there is an average
        [math.nan] * 100,
    ],
)
def test_a_loss_that_does_not_fall_has_no_lowest_point(losses):
    assert lowest_point(curve(losses), 100) is None


def test_a_loss_that_still_falls_is_lowest_at_the_end():
    points = curve(np.linspace(3.0, 1.0, 100))
    assert lowest_point(points, 100) is points[-1]
