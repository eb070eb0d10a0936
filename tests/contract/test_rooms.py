"""Who may import whom, and what the command costs before it does anything."""

import subprocess
import sys
import time

import pytest

from pipeline.cli import STAGES
from tests.contract.imports import MODULES, PACKAGE, own_imports, third_party

# Imports point one way: a room may import itself and the rooms before it.
ROOMS = (
    ("pipeline.errors",),
    (
        "pipeline.files",
        "pipeline.parquet",
        "pipeline.progress",
        "pipeline.parallel",
        "pipeline.threads",
        "pipeline.remote",
    ),
    ("pipeline.params",),
    ("pipeline.recipes",),
    ("pipeline.data", "pipeline.evaluation"),
    ("pipeline.vision",),
    ("pipeline.runtime.storage",),
    ("pipeline.runtime.tracking",),
    ("pipeline.runtime.session",),
    ("pipeline.runtime.registry",),
    ("pipeline.runtime.ray",),
    ("pipeline.runtime.training", "pipeline.runtime"),
    ("pipeline.runtime.jobs", "pipeline.runtime.retraining"),
    ("pipeline.stages", "pipeline.commands"),
    ("pipeline.cli",),
    ("pipeline.__main__",),
)
# The module or room where each library may be imported.
HOMES = {
    "ray": {module for module in MODULES if module.startswith("pipeline.runtime.ray.")},
    "mlflow": {
        "pipeline.runtime.tracking.checkpoints",
        "pipeline.runtime.tracking.replay",
        "pipeline.runtime.registry.versions",
        "pipeline.runtime.tracking.results",
        "pipeline.runtime.registry.pyfunc_model",
        "pipeline.runtime.tracking.database",
        "pipeline.runtime.tracking.store",
    },
    "albumentations": {"pipeline.data.balancing.augment"},
    "torchvision": {"pipeline.vision._torchvision"},
    # A program to all others, and not a library.
    "dvc": {"pipeline.runtime.retraining.dvc_files"},
}
LIGHT_STAGES = ("index", "split", "pack", "balance", "baseline", "register", "report")


def room_of(module: str) -> int:
    for level, names in enumerate(ROOMS):
        if any(module == name or module.startswith(f"{name}.") for name in names):
            return level
    raise AssertionError(f"{module} belongs to no room")


PACKAGE_MODULES = [module for module in MODULES if module != "pipeline"]


@pytest.mark.parametrize("module", PACKAGE_MODULES)
def test_imports_point_one_way(module):
    for imported in own_imports(module) - {"pipeline"}:
        assert room_of(imported) <= room_of(module), f"{module} imports {imported}"


@pytest.mark.parametrize("module", PACKAGE_MODULES)
def test_data_and_evaluation_and_stages_and_commands_stay_apart(module):
    neighbours = {
        "pipeline.data": "pipeline.evaluation",
        "pipeline.evaluation": "pipeline.data",
    }
    for room, other in neighbours.items():
        if module.startswith(f"{room}."):
            assert not {name for name in own_imports(module) if name.startswith(f"{other}.")}
    if module.startswith(("pipeline.stages.", "pipeline.commands.")):
        others = {
            name
            for name in own_imports(module) - {module}
            if name.startswith(("pipeline.stages.", "pipeline.commands."))
            # Parts of stages, and what several share; commands for people look there too.
            and not name.split(".")[2].startswith("_")
        }
        assert not others, f"{module} imports {others}"


@pytest.mark.parametrize("library", HOMES)
def test_each_library_has_one_home(library):
    users = {module for module in MODULES if library in third_party(module)}
    assert users <= HOMES[library]
    assert users, f"nobody imports {library}"


def test_torch_stays_out_of_the_light_rooms():
    for module in MODULES:
        if module.startswith(("pipeline.data.", "pipeline.evaluation.", "pipeline.params")):
            assert "torch" not in third_party(module), module


def test_vision_knows_no_params_file_and_prints_nothing():
    for module, path in MODULES.items():
        if module.startswith("pipeline.vision."):
            text = path.read_text()
            assert "print(" not in text, module
            assert "load_params" not in text, module


def test_no_pickles_and_no_unsafe_yaml():
    for module, path in MODULES.items():
        text = path.read_text()
        assert "import pickle" not in text, module
        assert "torch.load(" not in text, module
        assert "torch.save(" not in text, module
        assert "shell=True" not in text, module
        assert "yaml.load(text, Loader=_Loader)" in text or "yaml.load(" not in text, module


def _loaded_by(code: str) -> set[str]:
    """Run code in a fresh interpreter and return the top-level modules that it loaded."""
    shown = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    answer = subprocess.run(
        [sys.executable, "-c", f"{code}\n{shown}"], capture_output=True, text=True, check=True
    )
    return set(answer.stdout.split())


def test_the_command_line_imports_nothing_heavy():
    heavy = {"torch", "ray", "mlflow", "albumentations", "pyarrow", "numpy", "cv2", "pydantic"}
    assert not _loaded_by("import pipeline.cli") & heavy


@pytest.mark.parametrize("stage", ["start", "train", "finetune"])
def test_a_trainings_driver_starts_without_torch(stage):
    """It only hands the work on, and what it imports first stands before the first step."""
    assert not _loaded_by(f"import pipeline.stages.{stage}") & {"torch", "ray", "mlflow"}


@pytest.mark.parametrize("stage", LIGHT_STAGES)
def test_light_stages_start_without_torch(stage):
    assert not _loaded_by(f"import pipeline.stages.{stage}") & {"torch", "ray", "mlflow"}


def test_importing_the_package_does_nothing(tmp_path):
    """No folder, no environment variable, no MLflow address comes from an import alone."""
    modules = [
        m
        for m in MODULES
        if m not in ("pipeline.__main__", "pipeline.runtime.registry.pyfunc_model")
    ]
    imports = "\n".join(f"import {module}" for module in modules)
    # Libraries that set variables of their own are imported first.
    code = (
        "import os, pathlib\nimport cv2, torch, ray, matplotlib, sklearn, pydantic, click, tqdm\n"
        f"before = dict(os.environ)\n{imports}\n"
        "assert dict(os.environ) == before, set(os.environ.items()) ^ set(before.items())\n"
        "assert not list(pathlib.Path().iterdir())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_drawing_chooses_no_backend_for_others():
    _loaded_by(
        "import matplotlib, pathlib; from pipeline.evaluation.plots import _style\n"
        "_style.save(_style.new_figure(1, 1), pathlib.Path('a.png'))\n"
        "assert matplotlib.get_backend(auto_select=False) is None"
    )


def test_help_is_quick():
    """Under 0.4 s; the best of five, since other work on the machine only ever adds."""
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "pipeline", "--help"], capture_output=True, check=True
        )
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.4


def test_every_stage_module_is_a_command():
    stages = {path.stem for path in (PACKAGE / "stages").glob("[!_]*.py")}
    assert stages == set(STAGES)
