"""Ray Train's trainer without the parts that a training of ours does not need.

Each actor of Ray is a Python process that imports Ray again: 1.5 to 2 s of CPU, and on two cores
about as much of waiting.
"""
# mypy: disallow-subclassing-any=False

from typing import Any

from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from pipeline.runtime.ray.policy import CapacityPolicy

# Actors that share out Ray data sets, which we do not use; and that give back what a dead
# controller had reserved. The latter asks Ray's dashboard: without one it finds nothing out, says
# so for ever, and holds up the end by 12 s. See `free_placement_groups`.
_UNNEEDED = {DatasetsCallback, PlacementGroupCleanerCallback}


class LeanTrainer(DataParallelTrainer):
    """Runs a function in all workers."""

    def __init__(self, *, private: bool, **settings: Any) -> None:
        """Take in Ray's settings, and whether the cluster is private: it ends with the driver."""
        super().__init__(**settings)
        self._private = private

    def _create_default_callbacks(self) -> list[Any]:
        return [one for one in super()._create_default_callbacks() if type(one) not in _UNNEEDED]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        parts["scaling_policy"] = CapacityPolicy(self.scaling_config, private=self._private)
        return super()._initialize_and_run_controller(**parts)


def free_placement_groups() -> None:
    """Give back what a dead controller has reserved; Ray would only when this driver ends."""
    import ray
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import (
        PlacementGroup,
        placement_group_table,
        remove_placement_group,
    )

    job = ray.get_runtime_context().get_job_id()
    for name in placement_group_table():
        if name.endswith(job):  # of the job that made it
            remove_placement_group(PlacementGroup(PlacementGroupID(bytes.fromhex(name))))


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
