"""Every schedule, loss and sampler that params.yaml may name."""

import copy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.params import load_params
from tests.contract.imports import ROOT

RAW = yaml.safe_load((ROOT / "params.yaml").read_text())
BRANCHES = {
    "schedule": [
        {"name": "constant", "warmup_epochs": 0.5},
        {"name": "cosine", "warmup_epochs": 2.0},
        {"name": "step", "warmup_epochs": 0.0, "milestones": (0.5, 0.75), "factor": 0.1},
        {"name": "one_cycle", "rise": 0.3},
    ],
    "loss": [
        {"name": "cross_entropy"},
        {"name": "class_balanced", "start": 0.8, "beta": 0.999},
        {"name": "focal", "start": 0.0, "gamma": 2.0},
        {"name": "balanced_softmax", "start": 0.5},
        {"name": "logit_adjusted", "start": 0.0, "tau": 1.0},
    ],
    "sampler": [
        {"name": "natural"},
        {"name": "square_root", "start": 0.0},
        {"name": "balanced", "start": 0.8},
    ],
}


@pytest.mark.parametrize("stage", ["train", "finetune"])
@pytest.mark.parametrize(
    ("key", "values"), [(key, values) for key, branches in BRANCHES.items() for values in branches]
)
def test_each_branch_loads(stage, key, values):
    changed = copy.deepcopy(RAW)
    changed[stage][key] = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
    Path("p.yaml").write_text(yaml.safe_dump(changed))
    loaded = getattr(getattr(load_params(Path("p.yaml")), stage), key)
    assert loaded.model_dump() == values


@pytest.mark.parametrize(
    ("key", "name", "expected"),
    [
        (
            "optimizer",
            "sgd",
            {"momentum": 0.9, "weight_decay": 1e-4, "layer_decay": 1.0, "sam_rho": 0.0},
        ),
        (
            "optimizer",
            "adamw",
            {"momentum": 0.9, "weight_decay": 0.01, "layer_decay": 1.0, "sam_rho": 0.0},
        ),
        ("schedule", "constant", {"warmup_epochs": 0.0}),
        ("schedule", "cosine", {"warmup_epochs": 0.0}),
        ("schedule", "step", {"warmup_epochs": 0.0, "milestones": (0.5, 0.75), "factor": 0.1}),
        ("schedule", "one_cycle", {"rise": 0.3}),
        ("loss", "cross_entropy", {}),
        ("loss", "class_balanced", {"start": 0.0, "beta": 0.999}),
        ("loss", "focal", {"start": 0.0, "gamma": 2.0}),
        ("loss", "balanced_softmax", {"start": 0.0}),
        ("loss", "logit_adjusted", {"start": 0.0, "tau": 1.0}),
        ("sampler", "natural", {}),
        ("sampler", "square_root", {"start": 0.0}),
        ("sampler", "balanced", {"start": 0.0}),
    ],
)
def test_a_name_alone_will_do(key, name, expected):
    given = {"name": name} | ({"lr": 0.1} if key == "optimizer" else {})
    changed = RAW | {"train": RAW["train"] | {key: given}}
    Path("p.yaml").write_text(yaml.safe_dump(changed))
    assert getattr(load_params(Path("p.yaml")).train, key).model_dump() == given | expected


@pytest.mark.parametrize(("key", "values"), [(k, v) for k, b in BRANCHES.items() for v in b])
def test_options_of_another_name_are_left_out(key, values):
    """As they stay where `dvc exp run -S` changes only the name."""
    others = {k: v for other in BRANCHES[key] for k, v in other.items()}
    changed = copy.deepcopy(RAW)
    changed["train"][key] = {k: list(v) if isinstance(v, tuple) else v for k, v in others.items()}
    changed["train"][key] |= {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
    Path("p.yaml").write_text(yaml.safe_dump(changed))
    assert getattr(load_params(Path("p.yaml")).train, key).model_dump() == values


CHANGE = """
import sys
from dvc.utils.hydra import apply_overrides
apply_overrides("params.yaml", sys.argv[1:])
"""


@pytest.mark.parametrize(
    ("override", "key", "expected"),
    [
        ("train.schedule.name=one_cycle", "schedule", {"name": "one_cycle", "rise": 0.3}),
        ("train.loss.name=focal", "loss", {"name": "focal", "start": 0.0, "gamma": 2.0}),
        ("train.sampler.name=balanced", "sampler", {"name": "balanced", "start": 0.0}),
    ],
)
def test_dvc_changes_a_name_and_nothing_else(tmp_path, override, key, expected):
    """By what `dvc exp run -S` calls; the file keeps the options that stood there."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    subprocess.run([sys.executable, "-c", CHANGE, override], cwd=tmp_path, check=True)
    before, after = RAW["train"][key], yaml.safe_load((tmp_path / "params.yaml").read_text())
    assert after["train"][key] == before | {"name": expected["name"]}
    loaded = getattr(load_params(tmp_path / "params.yaml").train, key)
    assert loaded.model_dump() == expected


@pytest.mark.parametrize("threads", ["auto", 1, 4])
@pytest.mark.parametrize("workers", [1, (1, 4)])
def test_each_form_of_resources_loads(threads, workers):
    changed = copy.deepcopy(RAW)
    changed["resources"] |= {
        "threads": threads,
        "workers": list(workers) if isinstance(workers, tuple) else workers,
    }
    Path("p.yaml").write_text(yaml.safe_dump(changed))
    resources = load_params(Path("p.yaml")).resources
    assert (resources.threads, resources.workers) == (threads, workers)
