"""The run folder of a driver on another node: its files, by way of an actor beside the driver."""

from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.runtime.session.run_files import LocalFiles

_ANSWER_S = 10.0


class DriverFiles:
    """The same as `LocalFiles`, on the node that made it. Can be handed to any worker."""

    def __init__(self) -> None:
        """Start the actor on this node; it ends with this process."""
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._actor: Any = (
            ray.remote(LocalFiles).options(num_cpus=0, scheduling_strategy=here).remote()
        )

    def replace(self, path: Path, text: str) -> None:
        """Write a file as a whole, soon; calls of one worker keep their order."""
        self._actor.replace.remote(path, text)

    def append(self, path: Path, text: str) -> None:
        """Add to the end of a file, soon; calls of one worker keep their order."""
        self._actor.append.remote(path, text)

    def exists(self, path: Path) -> bool:
        """Return whether there is such a file; False where the driver is gone."""
        try:
            return bool(ray.get(self._actor.exists.remote(path), timeout=_ANSWER_S))
        except ray.exceptions.RayError:
            return False
