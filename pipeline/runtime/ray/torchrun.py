"""The processes of torchrun, where it started this one: clusters without Ray, as by Slurm."""

import os
from dataclasses import dataclass

# As `torch.distributed` names them. Ray Train's local mode joins the group that they describe.
_NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class World:
    """The processes that train together.

    Attributes:
        rank: of this process, from 0; the first one alone records and writes.
        size: their number.
        local_size: of those on this machine.
    """

    rank: int
    size: int
    local_size: int


def torchrun_world() -> World | None:
    """Return the processes that torchrun started with this one, None where it did not."""
    if not set(_NAMES) <= set(os.environ):
        return None
    rank, size, local_size = (
        int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
    )
    return World(rank, size, local_size)
