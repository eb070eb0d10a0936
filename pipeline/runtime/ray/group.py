"""How the workers of a training on this machine find each other, out of reach of all others.

Ray's TorchConfig has torch's TCPStore do it, which listens on all addresses of the machine.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from pipeline.vision.training.batches import Share


@contextmanager
def loopback_group(share: Share, meeting: Path, device: torch.device) -> Iterator[None]:
    """Join the workers of this machine in a process group that talks over loopback.

    Args:
        share: this worker's place.
        meeting: a file that none has met in before; the same for all workers.
        device: what the workers compute on.
    """
    interface = "lo0" if sys.platform == "darwin" else "lo"
    os.environ |= {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface}
    torch.distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=torch.distributed.FileStore(str(meeting), share.workers),  # type: ignore[attr-defined]
        rank=share.rank,
        world_size=share.workers,
    )
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()
