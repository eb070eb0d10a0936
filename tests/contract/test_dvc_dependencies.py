"""Each DVC stage lists the modules that its result depends on, no more and no fewer."""

import re
from pathlib import Path

import pytest
import yaml

from pipeline.cli import STAGES
from tests.contract.imports import MODULES, PACKAGE, ROOT, reachable

# Modules on which no result depends, and why.
PLUMBING = {
    "pipeline.errors": "messages",
    "pipeline.params": "params.yaml states every value, and DVC tracks those",
    "pipeline.stages._paths": "dvc.yaml names the same paths; another one fails at once",
    "pipeline.progress": "the console",
    "pipeline.runtime.training.progress_bar": "the console",
    "pipeline.runtime.tracking.store": "what is recorded of a training, not what comes out of it",
    "pipeline.runtime.tracking.run_logger": "the same",
    "pipeline.runtime.training.event_handler": "the same",
    "pipeline.runtime.tracking.run_metadata": "the same",
    "pipeline.runtime.tracking.provenance": "the same",
    "pipeline.runtime.session.system_metrics": "the same",
    "pipeline.runtime.tracking.trained": "the same",
    "pipeline.evaluation.reports.run_metrics": "the same",
    "pipeline.runtime.tracking.results": "the same",
    "pipeline.stages._results": "the same",
    "pipeline.runtime.ray": "how processes are run; what they compute is in vision",
    "pipeline.runtime.session.run_folder": "where processes leave things for each other",
    "pipeline.runtime.session.event_log": "the same",
    "pipeline.runtime.session.checkpoint_store": "the same",
    "pipeline.runtime.session.sync_schedule": "when they do",
    "pipeline.runtime.session.interrupts": "what signals do",
}
# register changes what lies outside the repository and therefore runs every time.
ALWAYS = {"register"}


def _is_plumbing(module: str) -> bool:
    if MODULES[module].name == "__init__.py":
        return True  # docstrings and re-exports
    parents = {".".join(module.split(".")[: n + 1]) for n in range(module.count(".") + 1)}
    return bool(parents & set(PLUMBING))


def expected_modules(stage: str) -> set[str]:
    """Return the modules a stage depends on; a folder, where it depends on all within."""
    needed = {m for m in reachable(f"pipeline.stages.{stage}") if not _is_plumbing(m)}
    files = {MODULES[module] for module in needed}
    folders = {folder for file in files for folder in file.parents if PACKAGE in folder.parents}
    whole = {folder for folder in folders if _code_in(folder) <= files}
    inside = {
        path for folder in whole for path in _code_in(folder) | whole if folder in path.parents
    }
    return {str(path.relative_to(ROOT)) for path in (files | whole) - inside}


def _code_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*.py") if path.name != "__init__.py"}


# Besides what its own module takes from params, a stage may hand all of them on.
HANDED_ON = {"train": {"model"}, "finetune": {"model"}}
UNTRACKED = {"resources", "tracking"}


def used_sections(stage: str) -> set[str]:
    """Return the sections of params that a stage's module reads."""
    source = MODULES[f"pipeline.stages.{stage}"].read_text()
    found = set(re.findall(r"\bparams\.(\w+?)_?\b", source)) - {"section"}
    return (found | HANDED_ON.get(stage, set())) - UNTRACKED


STAGE_ENTRIES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def test_dvc_stages_are_the_commands_in_their_order():
    assert list(STAGE_ENTRIES) == list(STAGES)
    assert all(entry["cmd"] == f"convoy {name}" for name, entry in STAGE_ENTRIES.items())


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_the_modules_it_depends_on(stage):
    listed = {dep for dep in STAGE_ENTRIES[stage]["deps"] if dep.startswith("pipeline/")}
    # Templates and such beside the modules count too.
    templates = {dep for dep in listed if Path(dep).suffix not in {".py", ""}}
    assert listed - templates == expected_modules(stage)
    assert all((ROOT / template).exists() for template in templates)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_the_params_it_depends_on(stage):
    assert set(STAGE_ENTRIES[stage]["params"]) == used_sections(stage)


def test_only_register_runs_every_time():
    always = {name for name, entry in STAGE_ENTRIES.items() if entry.get("always_changed")}
    assert always == ALWAYS


def test_every_template_is_a_dependency_of_the_report():
    templates = {
        path.relative_to(ROOT) for path in PACKAGE.rglob("*") if path.suffix in {".html", ".css"}
    }
    named = {Path(dep) for dep in STAGE_ENTRIES["report"]["deps"]}
    assert templates
    assert all(named & {path, *path.parents} for path in templates)
