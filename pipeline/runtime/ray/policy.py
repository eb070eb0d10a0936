"""How many workers Ray Train starts, at first, after a failure, and when there is more room."""

import time
from collections import Counter
from typing import Any

from ray.train.v2.api.config import ScalingConfig

from pipeline.errors import PipelineError
from pipeline.runtime.ray.capacity import count_fitting
from pipeline.runtime.ray.internals import Decision, LeanPolicy, free_by_node, places

_PATIENCE_S = 60.0
_CLUSTER_PATIENCE_S = 300.0  # where nodes may be started, or started again
_POLL_S = 0.5


class CapacityPolicy(LeanPolicy):
    """Takes as many workers as there is room for now, and gives up when there is none for long.

    Ray's own elastic policy counts all that the nodes have, also what others use, learns of changes
    every 20 s, and waits for ever.
    """

    def __init__(self, scaling_config: ScalingConfig, *, private: bool) -> None:
        """Take in what is asked for, see `LeanPolicy`."""
        super().__init__(scaling_config, private=private)
        # Of the running group. After a failure its places count as free: Ray decides first, and
        # clears them away afterwards.
        self._group: Any = None
        self._patience_s = _PATIENCE_S if private else _CLUSTER_PATIENCE_S
        self._looked_s = float("-inf")
        self._waits_since_s: float | None = None

    def make_decision_for_non_running_worker_group(self) -> Decision:
        """Start as many workers as fit.

        Raises:
            PipelineError: for too long there was no room for the fewest.
        """
        self._maybe_send_resource_request()
        workers = self._count_room()
        if workers < self.scaling_config.min_workers:
            self._wait()
            return self._keep()
        self._waits_since_s, self._group = None, None
        return self._resize(workers)

    def make_decision_for_running_worker_group(
        self,
        worker_group_state: Any,
        worker_group_status: Any,  # noqa: ARG002 - Ray's signature
    ) -> Decision:
        """Take more workers, now and then, when there is room for more."""
        self._maybe_send_resource_request()
        self._group = worker_group_state.placement_group_handle.placement_group
        now_s, running = time.monotonic(), len(worker_group_state.workers)
        since_s = now_s - max(worker_group_state.start_time, self._looked_s)
        if since_s < self.scaling_config.elastic_resize_monitor_interval_s:
            return self._keep()
        self._looked_s = now_s
        workers = self._count_room() if running < self.scaling_config.max_workers else running
        return self._resize(workers) if workers > running else self._keep()

    def _count_room(self) -> int:
        """Count the workers that fit beside what others use, the most that are asked for."""
        per_worker = self.scaling_config.resources_per_worker
        own = places(self._group) if self._group else Counter()
        nodes = [
            {kind: node.get(kind, 0.0) + own[name] * per_worker[kind] for kind in per_worker}
            for name, node in free_by_node().items()
        ]
        return min(count_fitting(nodes, per_worker), int(self.scaling_config.max_workers))

    def _wait(self) -> None:
        now_s = time.monotonic()
        self._waits_since_s = self._waits_since_s or now_s
        if now_s - self._waits_since_s > self._patience_s:
            raise PipelineError(
                f"for {self._patience_s:.0f} s the cluster has had no room for"
                f" {self.scaling_config.min_workers} workers, the fewest that resources.workers"
                " asks for; run dvc repro to go on from the last checkpoint when it has"
            )
        time.sleep(_POLL_S)
