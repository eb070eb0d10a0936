"""Everything of Ray that is private and used here, with what each part is needed for.

No other module reaches for a private part. A test compares them with the installed version, so an
upgrade that moves or renames one is noticed before a training is.
"""
# mypy: disallow-subclassing-any=False

import logging
from collections import Counter
from pathlib import Path
from typing import Any, TypeAlias

import ray
from ray._private.state import available_resources_per_node
from ray._raylet import PlacementGroupID
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.scaling_policy import (
    NoopDecision,
    ResizeDecision,
    ScalingDecision,
    ScalingPolicy,
)
from ray.train.v2.api.config import ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.placement_group import (
    PlacementGroup,
    placement_group_table,
    remove_placement_group,
)

Decision: TypeAlias = ScalingDecision

# Each actor of Ray is a Python process that imports Ray again: 1.5 to 2 s of CPU, and on two cores
# about as much of waiting. These two share out Ray data sets, which we do not use, and give back
# what a dead controller had reserved. The latter asks Ray's dashboard: without one it finds nothing
# out, says so for ever, and holds up the end by 12 s. See `free_placement_groups`.
_UNNEEDED = {DatasetsCallback, PlacementGroupCleanerCallback}

# Ray ends the processes of a cluster one by one, and gives each a second to go in peace. These have
# nothing to lose, and take that second.
_HELPERS = ("monitor", "log_monitor", "dashboard")

_TALKERS = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)


class LeanTrainer(DataParallelTrainer):
    """Runs a function in all workers, without the actors that a training of ours does not need."""

    def __init__(self, policy: ScalingPolicy, **settings: Any) -> None:
        """Take in how many workers there are to be, and Ray's settings."""
        super().__init__(**settings)
        self._policy = policy

    def _create_default_callbacks(self) -> list[Any]:
        return [one for one in super()._create_default_callbacks() if type(one) not in _UNNEEDED]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        return super()._initialize_and_run_controller(**parts | {"scaling_policy": self._policy})


class LeanPolicy(ScalingPolicy):
    """Decides how many workers there are; asks for more nodes only where some can come.

    Ray's coordinator of requests to the autoscaler is an actor of its own: 1.6 s of CPU.
    """

    def __init__(self, scaling_config: ScalingConfig, *, private: bool) -> None:
        """Take in what is asked for.

        Args:
            scaling_config: how many workers, and what each gets.
            private: whether no autoscaler can add nodes to the cluster.
        """
        super().__init__(scaling_config)
        self._private = private

    def after_controller_start(self, train_run_context: Any) -> None:
        """Ask the autoscaler."""
        if not self._private:
            super().after_controller_start(train_run_context)

    def _maybe_send_resource_request(self) -> None:
        if not self._private:
            super()._maybe_send_resource_request()

    def _cancel_resource_request(self) -> None:
        if not self._private:
            super()._cancel_resource_request()

    def _get_num_workers_for_resource_request(self) -> int:
        return int(self.scaling_config.max_workers)

    def _keep(self) -> Decision:
        return NoopDecision()

    def _resize(self, workers: int) -> Decision:
        return ResizeDecision(workers, self.scaling_config.resources_per_worker)


class NoBackend(BackendConfig):
    """Leaves it to the workers to find each other."""

    @property
    def backend_cls(self) -> type[Backend]:
        """What Ray is to do at the start and at the end."""
        return _VisibleDevices


class _VisibleDevices(Backend):
    # As TorchConfig has it: each worker sees all devices of its machine, which NCCL needs in
    # order to copy between them.
    share_cuda_visible_devices = True


def free_by_node() -> dict[str, dict[str, float]]:
    """Return what is free on each node: Ray's public functions add the nodes up."""
    return dict(available_resources_per_node())


def quieten_clients() -> None:
    """Keep the client of a job server from logging what it uploads."""
    for name in _TALKERS:
        logging.getLogger(name).setLevel(logging.ERROR)


def server_versions(client: Any) -> dict[str, str]:
    """Return what a job server says of its versions; its client's own method leaves Ray's out."""
    return dict(client._do_request("GET", "/api/version").json())


def places(placement_group: PlacementGroup) -> Counter[str]:
    """Count by node what a placement group holds now: Ray moves what was on a node that died."""
    placed = placement_group_table(placement_group).get("bundles_to_node_id", {})
    return Counter(node for node in placed.values() if node)


def free_placement_groups() -> None:
    """Give back what a dead controller has reserved; Ray would only when this driver ends."""
    job = ray.get_runtime_context().get_job_id()
    for name in placement_group_table():
        if name.endswith(job):  # of the job that made it
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(name))))


def print_no_worker_deaths() -> None:
    """Keep Ray from printing paragraphs on each dead process, to stdout."""
    ray._private.worker._worker_logs_enabled = False


def logs_folder() -> Path:
    """Return the folder of the cluster's logs on this machine."""
    return Path(_node().get_session_dir_path()) / "logs"


def end_cluster() -> None:
    """End the cluster that this process started, or leave the one that it joined; if any."""
    node = _node()
    if node is None:
        return
    for kind in _HELPERS:
        for started in node.all_processes.get(kind, []):  # none in a cluster that was joined
            started.process.kill()
    ray.shutdown()


def _node() -> Any:
    """Return this process's connection to the cluster, None where there is none."""
    return ray._private.worker._global_node
