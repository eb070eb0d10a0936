"""Every schedule, loss and sampler that params.yaml may name."""

import copy
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
