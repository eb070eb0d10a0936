"""Holds Ray's private parts against the installed version: an upgrade that moves one fails here."""

import inspect
import re
from pathlib import Path

import pytest
import ray

from pipeline.runtime.ray import internals
from pipeline.runtime.ray.policy import CapacityPolicy

PACKAGE = Path(internals.__file__).parents[2]
PRIVATE = re.compile(r"ray[\w.]*\._\w+|\b_internal\b|\b_raylet\b")


def own_methods(kind):
    return {name for name, value in vars(kind).items() if inspect.isfunction(value)}


@pytest.mark.parametrize(
    ("ours", "theirs", "overridden"),
    [
        (
            internals.LeanTrainer,
            internals.DataParallelTrainer,
            {"__init__", "_create_default_callbacks", "_initialize_and_run_controller"},
        ),
        (
            internals.LeanPolicy,
            internals.ScalingPolicy,
            {
                "__init__",
                "after_controller_start",
                "_maybe_send_resource_request",
                "_cancel_resource_request",
                "_get_num_workers_for_resource_request",
            },
        ),
        (
            CapacityPolicy,
            internals.ScalingPolicy,
            {
                "__init__",
                "make_decision_for_non_running_worker_group",
                "make_decision_for_running_worker_group",
            },
        ),
    ],
)
def test_what_is_overridden_is_what_ray_calls(ours, theirs, overridden):
    """A method that was renamed there would go on existing here, and never be called."""
    assert own_methods(ours) & set(dir(theirs)) == overridden
    for name in overridden - {"__init__"}:
        expected = list(inspect.signature(getattr(theirs, name)).parameters)
        if name != "_initialize_and_run_controller":  # takes what comes
            assert list(inspect.signature(getattr(ours, name)).parameters) == expected


def test_every_method_that_ray_leaves_to_a_policy_is_there():
    assert not inspect.isabstract(CapacityPolicy)


def test_ray_hands_the_policy_and_the_callbacks_to_its_controller():
    source = inspect.getsource(internals.DataParallelTrainer.fit)
    handed_on = source.partition("self._initialize_and_run_controller(")[2].partition("\n\n")[0]
    assert "scaling_policy=" in handed_on
    assert "callbacks=self._create_default_callbacks()" in handed_on


def test_what_is_left_out_is_what_ray_would_add():
    source = inspect.getsource(internals.DataParallelTrainer._create_default_callbacks)
    for callback in internals._UNNEEDED:
        assert f"{callback.__name__}(" in source


def test_the_devices_are_shared_by_the_attribute_that_ray_reads():
    from ray.train.torch.config import _TorchBackend

    assert internals.NoBackend().backend_cls.share_cuda_visible_devices
    assert _TorchBackend.share_cuda_visible_devices
    assert internals.Backend.share_cuda_visible_devices is False


def test_deaths_are_printed_by_what_is_switched_off(monkeypatch):
    from ray._private import worker

    assert worker._worker_logs_enabled is True
    monkeypatch.setattr(worker, "_worker_logs_enabled", True)  # put back afterwards
    internals.print_no_worker_deaths()
    assert worker._worker_logs_enabled is False
    assert "_worker_logs_enabled" in inspect.getsource(worker.print_worker_logs)


def test_the_node_has_what_is_asked_of_it():
    from ray._private.node import Node
    from ray._private.ray_constants import (
        PROCESS_TYPE_DASHBOARD,
        PROCESS_TYPE_LOG_MONITOR,
        PROCESS_TYPE_MONITOR,
    )

    assert internals._node() is ray._private.worker._global_node
    for name in ("all_processes", "get_session_dir_path"):
        assert hasattr(Node, name) or f"self.{name}:" in inspect.getsource(Node.__init__)
    known = {PROCESS_TYPE_MONITOR, PROCESS_TYPE_LOG_MONITOR, PROCESS_TYPE_DASHBOARD}
    assert known == set(internals._HELPERS)


def test_no_other_module_reaches_for_private_parts():
    found = {
        str(path.relative_to(PACKAGE)): matches
        for path in PACKAGE.rglob("*.py")
        if (matches := PRIVATE.findall(path.read_text()))
    }
    assert list(found) == ["runtime/ray/internals.py"]
