"""Inside of evaluation imports point one way: what decides results knows nothing of showing it."""

import pytest

from tests.contract.imports import MODULES, own_imports

# What each folder may import beside itself.
ALLOWED = {
    "metrics": set(),
    "latent": {"metrics", "reports"},
    "localization": {"metrics"},
    "drift": {"metrics"},
    "tta": {"metrics", "reports"},
    "baseline": {"metrics"},
    "judging": {"metrics", "reports"},
    "reports": set(),
    "registration": {"judging", "reports"},
    "retraining": {"reports"},
    "plots": {"metrics", "judging", "reports", "retraining"},
    "theme": set(),
    "map": {"plots", "theme"},
    "page": {"judging", "reports", "registration", "retraining", "theme"},
}
FOLDER = "pipeline.evaluation."


def folder_of(module):
    return module.removeprefix(FOLDER).partition(".")[0]


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith(FOLDER)])
def test_imports_point_one_way(module):
    found = {folder_of(name) for name in own_imports(module) if name.startswith(FOLDER)}
    assert found <= ALLOWED[folder_of(module)] | {folder_of(module)}


@pytest.mark.parametrize("folder", ALLOWED)
def test_each_folder_is_there(folder):
    assert f"{FOLDER}{folder}" in MODULES


@pytest.mark.parametrize("module", MODULES)
def test_private_modules_stay_in_their_folder(module):
    for name in own_imports(module):
        folder, _, last = name.rpartition(".")
        if last.startswith("_") and folder.startswith(FOLDER.rstrip(".")):
            assert module.startswith(folder), f"{module} imports {name}"
