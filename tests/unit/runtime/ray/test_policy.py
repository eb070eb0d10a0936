from collections import Counter
from types import SimpleNamespace

import pytest

from pipeline.errors import PipelineError

internals = pytest.importorskip("pipeline.runtime.ray.internals")
ray_policy = pytest.importorskip("pipeline.runtime.ray.policy")


class World:
    """Free amounts by node, and a clock."""

    def __init__(self, monkeypatch):
        self.free, self.now_s = {"a": {"CPU": 2.0}, "b": {"CPU": 1.0}}, 0.0
        monkeypatch.setattr(ray_policy, "free_by_node", lambda: self.free)
        monkeypatch.setattr(ray_policy, "places", Counter)  # groups are lists of nodes here
        clock = SimpleNamespace(monotonic=lambda: self.now_s, sleep=self.pass_time)
        monkeypatch.setattr(ray_policy, "time", clock)

    def pass_time(self, seconds):
        self.now_s += seconds


@pytest.fixture
def world(monkeypatch):
    return World(monkeypatch)


def make_policy(workers):
    scaling = ray_policy.ScalingConfig(
        num_workers=workers,
        resources_per_worker={"CPU": 1.0},
        elastic_resize_monitor_interval_s=60.0,
    )
    return ray_policy.CapacityPolicy(scaling, private=True)


def group(*nodes, start_s=0.0):
    handle = SimpleNamespace(placement_group=nodes)
    return SimpleNamespace(workers=nodes, placement_group_handle=handle, start_time=start_s)


@pytest.mark.parametrize(("workers", "expected"), [((1, 2), 2), ((1, 8), 3), (2, 2)])
def test_starts_as_many_as_fit(world, workers, expected):
    decision = make_policy(workers).make_decision_for_non_running_worker_group()
    assert decision.num_workers == expected
    assert decision.resources_per_worker == {"CPU": 1.0}


def test_waits_for_the_fewest_and_then_gives_up(world):
    policy = make_policy((4, 8))
    for _ in range(3):
        decision = policy.make_decision_for_non_running_worker_group()
        assert isinstance(decision, internals.NoopDecision)
    world.free["c"] = {"CPU": 1.0}
    assert policy.make_decision_for_non_running_worker_group().num_workers == 4
    del world.free["c"]
    with pytest.raises(PipelineError, match="60 s the cluster has had no room for 4 workers"):
        for _ in range(200):
            policy.make_decision_for_non_running_worker_group()
    assert 60 < world.now_s < 70


def test_looks_for_room_for_more_now_and_then(world):
    policy = make_policy((1, 4))
    world.free = {"a": {"CPU": 0.0}}
    world.now_s = 59.0
    decide = policy.make_decision_for_running_worker_group
    assert isinstance(decide(group("a"), None), internals.NoopDecision)
    world.now_s = 61.0
    assert isinstance(decide(group("a"), None), internals.NoopDecision)
    world.free = {"a": {"CPU": 1.0}}
    world.now_s = 120.0
    assert isinstance(decide(group("a"), None), internals.NoopDecision)
    world.now_s = 122.0
    assert decide(group("a"), None).num_workers == 2


def test_places_of_failed_workers_count_as_free_once(world):
    """Ray gives them back only after the decision; on a dead node there are none."""
    policy = make_policy((1, 4))
    world.free = {"a": {"CPU": 0.0}, "b": {"CPU": 1.0}}
    policy.make_decision_for_running_worker_group(group("a", "a", "dead"), None)
    assert policy.make_decision_for_non_running_worker_group().num_workers == 3
    assert policy.make_decision_for_non_running_worker_group().num_workers == 1
