"""The memory that a worker has taken at most."""

import resource
import sys

import torch

_MB = 1e6
# The unit of ru_maxrss, in bytes.
_UNIT = 1 if sys.platform == "darwin" else 1024


def peak_memory(device: torch.device) -> dict[str, float]:
    """Return the peaks of this process so far, in MB, as metrics.

    `memory_mb` is resident memory: pages of memory-mapped images that others could take count,
    too. `gpu_memory_mb` is what tensors took on a CUDA device.
    """
    peak = {"memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT / _MB}
    if device.type == "cuda":
        peak["gpu_memory_mb"] = torch.cuda.max_memory_allocated(device) / _MB
    return {name: round(value, 1) for name, value in peak.items()}
