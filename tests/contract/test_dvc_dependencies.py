"""Each DVC stage depends on the folders of code and the parts of the lock that its result needs.

What a stage needs is read from the imports, beginning at its module. The walk ends where a module
only starts, transports, records or shows: no result depends on it, whatever it imports.
"""

import re
from pathlib import Path

import pytest
import yaml

from pipeline.cli import STAGES
from tests.contract.imports import MODULES, PACKAGE, ROOT, own_imports, third_party

# No result depends on these.
PLUMBING = {
    "pipeline.errors": "messages",
    "pipeline.files": "how files are written, whatever is in them",
    "pipeline.parquet": "the same",
    "pipeline.progress": "the console",
    "pipeline.threads": "when, not what",
    "pipeline.remote": "asks a file system until it answers",
    "pipeline.parallel": "results are the same at any number of workers",
    "pipeline.params": "params.yaml states every value, and DVC tracks those",
    "pipeline.recipes": "what it chose is kept, whatever code chose it",
    "pipeline.runtime": "starts, transports and records",
    "pipeline.stages._paths": "dvc.yaml names the same paths; another one fails at once",
    "pipeline.stages._trained": "the same",
    "pipeline.stages._bundles": "opens a model, and refuses one that does not fit",
    "pipeline.vision._torchvision": "makes torchvision importable",
}
# Defaults of options, which params.yaml may leave out, do decide results.
DECIDING = {"pipeline.params.choices"}
# These only hand work on to what the walk finds behind them.
STARTERS = {"pipeline.stages.train", "pipeline.stages.finetune", "pipeline.stages._training"}
# What these chose is kept, whatever code chose it.
KEPT = {"autotune", "start"}
# register changes what lies outside the repository and therefore runs every time.
ALWAYS = {"register"}
# Files directly in these folders are units of their own.
OPEN_FOLDERS = {
    PACKAGE,
    *(PACKAGE / name for name in ("data", "params", "params/choices", "stages", "vision")),
}
# The parts of the lock, by the names under which their packages are imported.
LOCK = ROOT / "infra" / "lock"
PARTS = {
    "numpy": "arrays",
    "pyarrow": "arrays",
    "cv2": "images",
    "PIL": "images",
    "albumentations": "augmentation",
    "torch": "torch",
    "torchvision": "torch",
    "safetensors": "torch",
    "scipy": "statistics",
    "skimage": "statistics",
    "sklearn": "statistics",
    "threadpoolctl": "statistics",
    "captum": "pictures",
    "matplotlib": "pictures",
    "jinja2": "pictures",
}
# Besides what its own module takes from params, a stage may hand all of them on.
HANDED_ON = {
    "autotune": {"model", "recipe", "train", "finetune", "evaluate.metric"},
    "start": {"model", "start", "register.alias", "register.name"},
    "train": {"model"},
    "finetune": {"model"},
}
UNTRACKED = {"resources", "tracking"}

STAGE_ENTRIES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
TRACKED = [name for name in STAGES if name not in ALWAYS | KEPT]


def is_plumbing(module: str) -> bool:
    def is_in(names: set[str]) -> bool:
        return any(module == name or module.startswith(f"{name}.") for name in names)

    return is_in(set(PLUMBING)) and not is_in(DECIDING)


def needed_modules(stage: str) -> set[str]:
    """Return the modules that decide the result of a stage."""
    found, waiting = set(), [f"pipeline.stages.{stage}"]
    while waiting:
        module = waiting.pop()
        if module in found or module == "pipeline" or is_plumbing(module):
            continue
        found.add(module)
        waiting += own_imports(module)
    return found - STARTERS


def needed_code(stage: str) -> set[str]:
    """Return the folders, or single files, that hold those modules."""
    units = set()
    for path in (MODULES[module] for module in needed_modules(stage)):
        if path.name == "__init__.py" and path.parent in OPEN_FOLDERS:
            continue  # a docstring
        unit = path
        while unit.parent not in OPEN_FOLDERS | {PACKAGE / "evaluation"}:
            unit = unit.parent
        if unit != PACKAGE / "evaluation" / "__init__.py":
            units.add(str(unit.relative_to(ROOT)))
    choices = PACKAGE / "params" / "choices"
    files = {str(path.relative_to(ROOT)) for path in choices.glob("[!_]*.py")}
    return (units - files) | {str(choices.relative_to(ROOT))} if files <= units else units


def needed_locks(stage: str) -> set[str]:
    used = {name for module in needed_modules(stage) for name in third_party(module)}
    return {PARTS[name] for name in used & set(PARTS)}


def used_sections(stage: str) -> set[str]:
    """Return the sections of params that a stage's module reads."""
    source = MODULES[f"pipeline.stages.{stage}"].read_text()
    found = set(re.findall(r"(?<!pipeline\.)\bparams\.(\w+?)_?\b", source)) - {"section"}
    return (found | HANDED_ON.get(stage, set())) - UNTRACKED


def test_dvc_stages_are_the_commands_in_their_order():
    assert list(STAGE_ENTRIES) == list(STAGES)
    assert all(entry["cmd"] == f"convoy {name}" for name, entry in STAGE_ENTRIES.items())


@pytest.mark.parametrize("stage", TRACKED)
def test_a_stage_lists_the_code_it_depends_on(stage):
    listed = {dep for dep in STAGE_ENTRIES[stage]["deps"] if dep.startswith("pipeline/")}
    assert listed == needed_code(stage)


@pytest.mark.parametrize("stage", TRACKED)
def test_a_stage_lists_the_versions_it_depends_on(stage):
    listed = {Path(dep) for dep in STAGE_ENTRIES[stage]["deps"] if dep.startswith("infra/")}
    parts = {path.stem for path in listed}
    if Path("infra/lock") in listed:
        parts = {path.stem for path in LOCK.glob("*.txt")}
    needed = needed_locks(stage)
    # The whole folder stands for nearly all of its parts.
    assert needed <= parts
    assert len(parts - needed) <= (Path("infra/lock") in listed)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_the_params_it_depends_on(stage):
    assert set(STAGE_ENTRIES[stage]["params"]) == used_sections(stage)


def test_only_register_runs_every_time():
    always = {name for name, entry in STAGE_ENTRIES.items() if entry.get("always_changed")}
    assert always == ALWAYS


def test_every_part_of_the_lock_is_installed():
    included = set(re.findall(r"^-r (.+)$", (ROOT / "infra/requirements.lock").read_text(), re.M))
    assert included == {f"lock/{path.name}" for path in LOCK.glob("*.txt")}
    assert {path.stem for path in LOCK.glob("*.txt")} == set(PARTS.values())


def test_dvc_yaml_can_be_read_in_one_go():
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 220
