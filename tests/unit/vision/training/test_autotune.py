import pytest
import torch

from pipeline.vision.networks import build_network
from pipeline.vision.training.autotune import choose_compute, time_steps
from pipeline.vision.training.compute_config import ComputeConfig


def timer(seconds):
    """Return a timer that knows (precision, channels_last, threads) -> seconds, and what it saw."""
    seen = []

    def time(compute):
        seen.append(compute)
        return seconds[compute.precision, compute.channels_last] * seconds.get(compute.threads, 1.0)

    return time, seen


SPEEDS = {
    ("fp32", False): 1.0,
    ("fp32", True): 0.8,
    ("bf16", False): 0.9,
    ("bf16", True): 0.5,
}


@pytest.mark.parametrize(
    ("changes", "asked", "expected"),
    [
        ({}, {}, ComputeConfig("bf16", 4, True)),
        ({("bf16", True): 1.6}, {}, ComputeConfig("fp32", 4, True)),
        # a tenth is not worth the rounding
        ({("bf16", True): 0.72}, {}, ComputeConfig("fp32", 4, True)),
        ({("fp32", True): 0.99, ("bf16", True): 2.0}, {}, ComputeConfig("fp32", 4, False)),
        ({2: 0.5}, {}, ComputeConfig("bf16", 2, True)),
        ({2: 0.5, 1: 0.3}, {}, ComputeConfig("bf16", 1, True)),
        # a single thread would be quickest, but two are no gain over four: the search ends there
        ({2: 1.0, 1: 0.3}, {}, ComputeConfig("bf16", 4, True)),
        ({2: 0.5}, {"threads": 3}, ComputeConfig("bf16", 3, True)),
        ({}, {"precision": "fp32"}, ComputeConfig("fp32", 4, True)),
        (
            {("bf16", True): 3.0, ("bf16", False): 2.0},
            {"precision": "bf16"},
            ComputeConfig("bf16", 4),
        ),
    ],
)
def test_the_fastest_way_is_chosen(changes, asked, expected):
    time, seen = timer(SPEEDS | changes)
    asked = {"precision": "auto", "threads": "auto"} | asked
    assert choose_compute(time, **asked, most_threads=4) == expected
    if asked["precision"] != "auto":
        assert {compute.precision for compute in seen} == {asked["precision"]}


def test_a_busy_moment_does_not_decide():
    """Four times as slow at its first trial, the usual way is tried once more and stays."""
    steady, seen = timer(SPEEDS | {("fp32", True): 1.0, ("bf16", True): 1.0, ("bf16", False): 1.0})

    def time(compute):
        return steady(compute) * (4 if len(seen) == 1 else 1)

    found = choose_compute(time, precision="auto", threads="auto", most_threads=2)
    assert found == ComputeConfig("fp32", 2, False)
    assert seen.count(found) == 2


def test_a_step_is_timed_and_leaves_no_trace():
    torch.manual_seed(0)
    network = build_network("resnet20", {}, (3, 16, 16), 3)
    network.extractor.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    threads = torch.get_num_threads()
    time = time_steps(network, (4, 3, 16, 16), torch.device("cpu"))
    for compute in (ComputeConfig("fp32", 1, True), ComputeConfig("bf16", 2, False)):
        assert 0 < time(compute) < 5
    assert torch.get_num_threads() == threads
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_single_image_is_no_matter_for_a_trial():
    """Norms over one pixel refuse it; the training says what to change, a trial could not."""
    network = build_network("mobilenet_v3_small", {}, (1, 16, 16), 3)
    assert time_steps(network, (1, 1, 16, 16), torch.device("cpu"))(ComputeConfig()) > 0


def test_a_way_in_words():
    assert str(ComputeConfig("bf16", 1, True)) == "bf16, 1 thread, channels last"
    assert str(ComputeConfig("fp32", 2, False)) == "fp32, 2 threads, channels first"
