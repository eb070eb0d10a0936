import json
import subprocess
import time
from types import SimpleNamespace

import psutil
import pytest

from pipeline.runtime.session import system_metrics as load
from pipeline.runtime.session.system_metrics import collecting, read_gpus, sampling
from tests.waiting import wait_until

NAMES = {
    "cpu_utilization_percentage",
    "system_memory_usage_megabytes",
    "system_memory_usage_percentage",
    "disk_usage_megabytes",
    "disk_usage_percentage",
    "disk_available_megabytes",
    "network_receive_megabytes",
    "network_transmit_megabytes",
}


@pytest.fixture(autouse=True)
def _no_gpus(monkeypatch):
    monkeypatch.setattr(load.shutil, "which", lambda _: None)


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_machine_is_sampled_until_the_end(tmp_path):
    before_ms = time.time() * 1000
    path = tmp_path / "node_3.jsonl"
    with sampling(tmp_path, 3, interval_s=0.05):
        wait_until(lambda: path.exists() and path.read_text().count("\n") >= 2)
    found = lines_of(path)
    assert len(found) >= 3  # one more at the end
    assert {name for line in found for name in line["values"]} == NAMES
    times = [line["time_ms"] for line in found]
    assert before_ms - 1 <= times[0] < times[1] <= time.time() * 1000
    values = found[-1]["values"]
    assert 0 <= values["cpu_utilization_percentage"] <= 100
    assert values["system_memory_usage_megabytes"] == pytest.approx(
        psutil.virtual_memory().used / 1e6, rel=0.3
    )


def test_the_first_sample_tells_of_the_cpu_since_the_start(tmp_path):
    """Not 0, as an answer about no time at all would be."""
    with sampling(tmp_path, 0):
        busy_until_s = time.monotonic() + 0.3
        while time.monotonic() < busy_until_s:
            pass
    (line,) = lines_of(tmp_path / "node_0.jsonl")
    assert line["values"]["cpu_utilization_percentage"] > 0


def test_a_short_training_has_one_sample(tmp_path):
    with sampling(tmp_path / "load", 0):
        pass
    assert len(lines_of(tmp_path / "load" / "node_0.jsonl")) == 1


def test_a_network_counts_from_the_start(tmp_path, monkeypatch):
    counters = iter([(5_000_000, 1_000_000), (7_500_000, 1_000_000)])
    monkeypatch.setattr(
        psutil,
        "net_io_counters",
        lambda: SimpleNamespace(
            **dict(zip(("bytes_recv", "bytes_sent"), next(counters), strict=True))
        ),
    )
    with sampling(tmp_path, 0):
        pass
    (line,) = lines_of(tmp_path / "node_0.jsonl")
    assert line["values"]["network_receive_megabytes"] == 2.5
    assert line["values"]["network_transmit_megabytes"] == 0.0


def test_a_machine_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "net_io_counters", lambda: None)
    with sampling(tmp_path, 0):
        pass
    (line,) = lines_of(tmp_path / "node_0.jsonl")
    assert set(line["values"]) == {name for name in NAMES if not name.startswith("network")}


def test_samples_are_handed_on_with_their_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "_POLL_S", 0.02)
    taken = []
    first, second = tmp_path / "node_0.jsonl", tmp_path / "node_1.jsonl"

    def add(path, time_ms, text=None):
        with path.open("a") as file:
            file.write(text or json.dumps({"time_ms": time_ms, "values": {"a": 1.0}}) + "\n")

    add(first, 10)
    with collecting(tmp_path, lambda *sample: taken.append(sample)):
        wait_until(lambda: taken)
        add(first, 0, '{"time_ms": 20, "val')  # killed while it wrote
        add(first, 30, "\n")
        add(first, 40)
        add(second, 50)
    values = {"a": 1.0}
    assert sorted(taken) == [
        ("node_0", 1, 10, values),
        ("node_0", 3, 40, values),
        ("node_1", 1, 50, values),
    ]
    # Whoever goes on gets them again.
    again = []
    with collecting(tmp_path, lambda *sample: again.append(sample)):
        pass
    assert sorted(again) == sorted(taken)


def test_nobody_has_sampled(tmp_path):
    with collecting(tmp_path / "none", None):
        pass


# What `nvidia-smi --query-gpu=utilization.gpu,memory.used,memory.total,power.draw
# --format=csv,noheader,nounits` says of a GPU at work, and of one that does not tell all.
SAID = "87, 1000, 8000, 251.30\n[N/A], 0, 8000, [Not Supported]\n"
GPUS = {
    "gpu_0_utilization_percentage": 87.0,
    "gpu_0_memory_usage_megabytes": 1048.576,
    "gpu_0_memory_usage_percentage": 12.5,
    "gpu_0_power_usage_watts": 251.3,
    "gpu_1_memory_usage_megabytes": 0.0,
    "gpu_1_memory_usage_percentage": 0.0,
}


def test_gpus():
    assert read_gpus(SAID) == GPUS
    assert read_gpus("") == {}


def test_gpus_are_part_of_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(load.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(
        load.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=SAID, returncode=0)
    )
    with sampling(tmp_path, 0):
        pass
    (line,) = lines_of(tmp_path / "node_0.jsonl")
    assert set(line["values"]) == NAMES | set(GPUS)


def test_gpus_that_cannot_be_asked(tmp_path, monkeypatch):
    def hangs(*_, **__):
        raise subprocess.TimeoutExpired("nvidia-smi", 5.0)

    monkeypatch.setattr(load.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(load.subprocess, "run", hangs)
    with sampling(tmp_path, 0):
        pass
    (line,) = lines_of(tmp_path / "node_0.jsonl")
    assert set(line["values"]) == NAMES
