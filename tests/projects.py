"""Projects of a user: a folder with packed digits, in which commands run as processes."""

import hashlib
import os
import shutil
import subprocess
import sys

import yaml

from tests.contract.imports import ROOT

# Adam, and larger steps, blow up what two workers round differently.
SGD = {"name": "sgd", "lr": 0.0001, "momentum": 0.9, "weight_decay": 0.0, "layer_decay": 1.0}


def convoy(workspace, *words, env=None, start=(sys.executable,), **settings):
    """Start a command in a workspace."""
    variables = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    variables |= {"PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [*start, "-m", "pipeline", *words],
        cwd=workspace,
        env=variables | (env or {}),
        text=True,
        **settings,
    )


def run(workspace, *words, env=None):
    """Run a command to its end; return its exit code and all that it printed."""
    process = convoy(workspace, *words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, _ = process.communicate(timeout=300)
    return process.returncode, said


def change(workspace, section, **values):
    file = workspace / "params.yaml"
    params = yaml.safe_load(file.read_text())
    params[section] |= values
    file.write_text(yaml.safe_dump(params))


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def make_project(folder, epochs):
    """Make a project whose training does so many epochs; return its folder."""
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "infra" / "lock", folder / "infra" / "lock")
    shutil.copytree(ROOT / "models" / "compute", folder / "models" / "compute")
    change(folder, "train", optimizer=SGD, epochs=epochs, global_batch_size=16, mixup_alpha=0.3)
    change(
        folder,
        "train",
        early_stopping={"metric": "loss", "patience": 999, "min_delta": 0.0, "keep": "best"},
    )
    change(folder, "train", precision="fp32")
    change(folder, "resources", checkpoint_interval_s=0.5, threads=1)
    for stage in ("sample", "index", "split", "pack"):
        code, said = run(folder, stage)
        assert code == 0, said
    return folder
