"""Which folder of pipeline/data may import which: DVC re-runs a stage by the folders it names."""

import pytest

from tests.contract.imports import MODULES, own_imports

# Each may import itself, and of its neighbours these alone.
ALLOWED = {
    "groups": set(),
    "images": set(),
    "tables": set(),
    "shards": set(),
    "sample": set(),
    "parcels": set(),
    "sources": {"images", "tables"},
    "split": {"tables"},
    "indexing": {"groups", "images", "sources", "tables"},
    "packing": {"images", "reuse", "shards", "sources"},
    "balancing": {"reuse", "shards"},
    "reuse": {"shards"},
}
MODULES_OF_DATA = [name for name in MODULES if name.startswith("pipeline.data.")]


def part_of(module):
    """Return the folder or module directly below pipeline/data."""
    return module.split(".")[2]


@pytest.mark.parametrize("module", MODULES_OF_DATA)
def test_a_folder_imports_only_what_its_stage_depends_on(module):
    imported = {name for name in own_imports(module) if name.startswith("pipeline.data.")}
    own = part_of(module)
    assert {part_of(name) for name in imported} - {own} <= ALLOWED[own]


def test_every_part_is_listed():
    assert {part_of(name) for name in MODULES_OF_DATA} == set(ALLOWED)
