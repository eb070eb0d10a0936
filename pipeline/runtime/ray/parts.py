"""Ray Train's trainer without the parts that a training of ours does not need.

Each actor of Ray is a Python process that imports Ray anew: 1.5 to 2 s of CPU, and on two cores
about as much of waiting.
"""
# mypy: disallow-subclassing-any=False

import time
from typing import Any

from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.scaling_policy import (
    ElasticScalingPolicy,
    FixedScalingPolicy,
    NoopDecision,
    ScalingDecision,
    ScalingPolicy,
)
from ray.train.v2.api.config import ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from pipeline.errors import PipelineError

# For fewer workers than the fewest, after a failure. Ray's own policy waits for ever.
_PATIENCE_S = 60.0


class LeanTrainer(DataParallelTrainer):
    """Runs a function in all workers."""

    def __init__(self, *, private: bool, **settings: Any) -> None:
        """Leave out more where the cluster is private: it ends with the driver."""
        super().__init__(**settings)
        self._private = private

    def _create_default_callbacks(self) -> list[Any]:
        # An actor that shares out Ray data sets, which we do not use; and one that gives back
        # resources after the driver's death, which a private cluster does not survive.
        unneeded = {DatasetsCallback} | (
            {PlacementGroupCleanerCallback} if self._private else set()
        )
        return [one for one in super()._create_default_callbacks() if type(one) not in unneeded]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        parts["scaling_policy"] = _policy(self.scaling_config, self._private)
        return super()._initialize_and_run_controller(**parts)


def _policy(scaling: ScalingConfig, private: bool) -> ScalingPolicy:
    if scaling.elasticity_enabled:
        return ImpatientElasticPolicy(scaling)
    return PrivatePolicy(scaling) if private else FixedScalingPolicy(scaling)


class PrivatePolicy(FixedScalingPolicy):
    """Asks no autoscaler for nodes, for a private cluster gets none."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Make no connection to Ray's coordinator, an actor of its own."""

    def _maybe_send_resource_request(self) -> None:
        pass

    def _cancel_resource_request(self) -> None:
        pass


class ImpatientElasticPolicy(ElasticScalingPolicy):
    """Takes as many workers as there is room for, and gives up when there is none for long."""

    def __init__(self, scaling_config: ScalingConfig) -> None:
        super().__init__(scaling_config)
        self._waits_since: float | None = None

    def make_decision_for_non_running_worker_group(self) -> ScalingDecision:
        """Start as many workers as fit.

        Raises:
            PipelineError: for too long there was no room for the fewest.
        """
        decision = super().make_decision_for_non_running_worker_group()
        if not isinstance(decision, NoopDecision):
            self._waits_since = None
            return decision
        self._waits_since = self._waits_since or time.monotonic()
        if time.monotonic() - self._waits_since > _PATIENCE_S:
            raise PipelineError(
                f"for {_PATIENCE_S:.0f} s the cluster has had no room for the"
                f" {self.scaling_config.min_workers} workers that resources.workers asks for at"
                " least; run dvc repro to go on when it has"
            )
        return decision


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
