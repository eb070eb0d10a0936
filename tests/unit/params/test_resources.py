import pytest
from pydantic import ValidationError

from pipeline.params import JOINED, Resources, load_params
from tests.contract.imports import ROOT

RESOURCES = load_params(ROOT / "params.yaml").resources


@pytest.mark.parametrize(("workers", "most"), [(1, 1), (4, 4), ((1, 4), 4), ((2, 2), 2)])
def test_the_most_workers(workers, most):
    resources = Resources(**RESOURCES.model_dump() | {"workers": workers})
    assert resources.most_workers == most


@pytest.mark.parametrize("address", ["10.0.0.1:6379", "auto", "ray://10.0.0.1:10001"])
def test_an_address_is_that_of_a_job_server(address):
    with pytest.raises(ValidationError, match=r"need the cluster's job server, such as http://"):
        Resources(**RESOURCES.model_dump() | {"address": address})


@pytest.mark.parametrize(
    ("address", "storage", "runs"),
    [
        (None, "/shared", "/shared"),
        (JOINED, "/shared", "/shared"),
        ("http://10.0.0.1:8265", "/shared", ".convoy/runs"),
        (None, "s3://bucket/convoy", ".convoy/runs"),
    ],
)
def test_runs_lie_on_this_machine(address, storage, runs):
    resources = RESOURCES.model_copy(update={"address": address, "storage": storage})
    assert resources.runs == runs
