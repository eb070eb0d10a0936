import pytest

from pipeline.params import Resources, load_params
from tests.contract.imports import ROOT

RESOURCES = load_params(ROOT / "params.yaml").resources


@pytest.mark.parametrize(
    ("workers", "fewest", "most"), [(1, 1, 1), (4, 4, 4), ((1, 4), 1, 4), ((2, 2), 2, 2)]
)
def test_a_number_of_workers_is_a_range_of_one(workers, fewest, most):
    resources = Resources(**RESOURCES.model_dump() | {"workers": workers})
    assert (resources.fewest_workers, resources.most_workers) == (fewest, most)
