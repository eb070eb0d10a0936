"""The load of the nodes while they train, under the names by which MLflow's UI shows it.

A worker of each node samples its machine and appends lines to a file of the driver; the
driver, which alone talks to the tracking store, reads them. Unlike MLflow's own monitor it needs
neither MLflow nor the store's address on the node.
"""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from pipeline.runtime.session.run_files import LOCAL, RunFiles
from pipeline.threads import in_background

_INTERVAL_S = 10.0
_POLL_S = 2.0
_MB = 1e6
_MIB = 2**20 / _MB
_GPU_TIMEOUT_S = 5.0
_GPU_QUERY = ("utilization.gpu", "memory.used", "memory.total", "power.draw")

# Node ('node_0'), number of the sample from 1, milliseconds since 1970, values by name.
Take = Callable[[str, int, int, Mapping[str, float]], None]


@contextmanager
def sampling(
    folder: Path, node: int, interval_s: float = _INTERVAL_S, files: RunFiles = LOCAL
) -> Iterator[None]:
    """Sample this machine from time to time while the block runs, and at its end.

    Args:
        folder: where a file per node lies; a later block goes on with it.
        node: number of this one, from 0.
        interval_s: between two samples.
        files: of the driver.
    """

    def work(ended: threading.Event) -> None:
        sampler, last = _Sampler(), False  # here: psutil counts the CPU's time for each thread
        while not last:
            last = ended.wait(interval_s)
            line = {"time_ms": int(time.time() * 1000), "values": sampler.sample()}
            files.append(folder / f"node_{node}.jsonl", json.dumps(line) + "\n")

    with in_background(work):
        yield


@contextmanager
def collecting(folder: Path, take: Take) -> Iterator[None]:
    """Hand the samples in `folder` to `take`, in a thread, until the block ends.

    Those of an earlier block come again, with the same numbers.
    """
    readers: dict[Path, Iterator[None]] = {}

    def work(ended: threading.Event) -> None:
        last = False
        while not last:
            last = ended.wait(_POLL_S)
            for path in folder.glob("node_*.jsonl"):
                next(readers.setdefault(path, _read_on(path, take)))

    with in_background(work):
        yield


def _read_on(path: Path, take: Take) -> Iterator[None]:
    """Hand on the lines that were added since the last step of this iterator."""
    position, number = 0, 1  # MLflow gives what is logged at step 0 to the model, too
    while True:
        with path.open("rb") as file:
            file.seek(position)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]  # the last line may be half written
        position += len(whole)
        for line in whole.splitlines():
            # A worker that was killed while it wrote has left a line that is none.
            with suppress(ValueError):
                sample = json.loads(line)
                take(path.stem, number, sample["time_ms"], sample["values"])
            number += 1
        yield


class _Sampler:
    """Measures this machine; what counts up is counted from here on."""

    def __init__(self) -> None:
        psutil.cpu_percent()  # its first answer is about no time at all
        self._before = psutil.net_io_counters()
        self._asks_gpus = shutil.which("nvidia-smi") is not None

    def sample(self) -> dict[str, float]:
        """Return values by name; CPU is the mean since the last call."""
        memory, disk = psutil.virtual_memory(), psutil.disk_usage("/")
        values = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / _MB,
            "system_memory_usage_percentage": memory.percent,
            "disk_usage_megabytes": disk.used / _MB,
            "disk_usage_percentage": disk.percent,
            "disk_available_megabytes": disk.free / _MB,
        }
        network = psutil.net_io_counters()
        if network and self._before:  # None on machines without a network
            received = network.bytes_recv - self._before.bytes_recv
            sent = network.bytes_sent - self._before.bytes_sent
            values["network_receive_megabytes"] = received / _MB
            values["network_transmit_megabytes"] = sent / _MB
        values |= _ask_gpus() if self._asks_gpus else {}
        return {name: round(value, 2) for name, value in values.items()}


def _ask_gpus() -> dict[str, float]:
    command = ["nvidia-smi", f"--query-gpu={','.join(_GPU_QUERY)}"]
    try:
        asked = subprocess.run(
            [*command, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            check=True,
            timeout=_GPU_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return read_gpus(asked.stdout)


def read_gpus(table: str) -> dict[str, float]:
    """Read what nvidia-smi says: a line per GPU of percent, MiB, MiB and W.

    What a GPU does not tell, such as '[N/A]', is left out.
    """
    values: dict[str, float] = {}
    for number, line in enumerate(table.splitlines()):
        use, used, total, power = (_number(word) for word in line.split(","))
        found = {
            "utilization_percentage": use,
            "memory_usage_megabytes": used and used * _MIB,
            "memory_usage_percentage": used and total and 100 * used / total,
            "power_usage_watts": power,
        }
        values |= {f"gpu_{number}_{name}": v for name, v in found.items() if v is not None}
    return values


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
