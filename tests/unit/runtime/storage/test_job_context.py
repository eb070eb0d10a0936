import json
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.params import JOINED, load_params
from pipeline.runtime.storage.job_context import VARIABLE, JobContext, current_job, placed
from tests.contract.imports import ROOT


@pytest.fixture
def params():
    return load_params(ROOT / "params.yaml")


@pytest.fixture
def job(tmp_path):
    return JobContext(
        identity="abc",
        attempt=3,
        storage=str(tmp_path / "storage"),
        store=None,
        provenance={"git.commit": "0" * 40},
        weights={"train": {"weights": ".convoy/weights/ü.safetensors", "origin": None}},
    )


@pytest.fixture
def outside(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv(VARIABLE, raising=False)


def test_it_travels_by_the_environment(job, outside, monkeypatch):
    assert current_job() is None
    ((name, value),) = job.environment().items()
    assert (name, json.loads(value)["attempt"]) == ("CONVOY_JOB", 3)
    monkeypatch.setenv(name, value)
    assert current_job() == job
    job.shared.write("x", b"1")
    assert Path(job.storage, "x").read_bytes() == b"1"


def test_outside_of_a_job_params_hold(params, outside, monkeypatch):
    assert placed(params) is params
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert placed(params) is params
    monkeypatch.setenv(VARIABLE, "")
    assert placed(params) is params


@pytest.mark.parametrize("address", ["http://head:8265", "https://head"])
def test_a_job_server_in_the_environment_takes_the_place_of_the_params(
    params, outside, monkeypatch, address
):
    monkeypatch.setenv("RAY_ADDRESS", address)
    found = placed(params)
    assert found.resources.address == address
    expected = params.model_dump() | {"resources": params.resources.model_dump()}
    expected["resources"]["address"] = address
    assert found.model_dump() == expected
    assert params.resources.address is None


@pytest.mark.parametrize("address", ["auto", "head:6379", "ray://head:10001"])
def test_another_address_is_refused(params, outside, monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(PipelineError, match=rf"RAY_ADDRESS is {address}, expected .*8265; set it"):
        placed(params)


def test_within_a_job_its_own_cluster_holds(params, job, outside, monkeypatch, tmp_path):
    monkeypatch.setenv("CONVOY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")  # as Ray sets it in a job
    monkeypatch.setenv(*next(iter(job.environment().items())))
    resources = placed(params).resources
    assert resources.address == JOINED
    assert resources.storage == resources.runs == str(tmp_path / "cache/jobs/abc/runs")
