import pytest

from pipeline.runtime.session.sync_schedule import Decision, SyncSchedule


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.mark.parametrize("step_s", [0.0001, 0.02, 0.3, 5.0])
def test_looks_settle_at_about_a_second(step_s):
    clock = Clock()
    schedule_, steps = SyncSchedule(1e9, clock), 1
    for _ in range(30):
        clock.now_s += steps * step_s
        decision, steps = schedule_.decide(stop=False)
        assert decision == Decision.GO_ON
    assert steps == max(1, round(1 / step_s))


def test_a_stretch_cut_short_changes_little():
    clock = Clock()
    schedule_, steps = SyncSchedule(1e9, clock), 1
    for _ in range(20):
        clock.now_s += steps * 0.01
        _, steps = schedule_.decide(stop=False)
    clock.now_s += 0.01  # the last step of an epoch
    _, after = schedule_.decide(stop=False)
    assert after == 2 * steps


def test_saves_by_the_interval_and_stops_when_asked():
    clock = Clock()
    schedule_ = SyncSchedule(5.0, clock)
    clock.now_s = 4.0
    assert schedule_.decide(stop=False)[0] == Decision.GO_ON
    clock.now_s = 5.0
    assert schedule_.decide(stop=False)[0] == Decision.SAVE
    schedule_.saved(0.1)
    clock.now_s = 9.0
    assert schedule_.decide(stop=False)[0] == Decision.GO_ON
    assert schedule_.decide(stop=True)[0] == Decision.STOP


def test_slow_checkpoints_are_taken_seldom():
    clock = Clock()
    schedule_ = SyncSchedule(5.0, clock)
    schedule_.saved(2.0)  # a twentieth of 40 s
    clock.now_s = 39.0
    assert schedule_.decide(stop=False)[0] == Decision.GO_ON
    clock.now_s = 40.0
    assert schedule_.decide(stop=False)[0] == Decision.SAVE
