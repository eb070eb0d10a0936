"""Trainings that torchrun starts, without a Ray cluster."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from tests.projects import change, convoy, make_project, run

pytestmark = pytest.mark.distributed


def weights(project):
    return load_file(project / "models" / "base" / "model.safetensors")


def test_two_processes_train_the_network_of_one_and_the_first_writes_it(tmp_path):
    (tmp_path / "two").mkdir()
    two = make_project(tmp_path / "two", epochs=3)
    one = shutil.copytree(two, tmp_path / "one")
    code, said = run(one, "train")
    assert code == 0, said

    change(two, "resources", workers=1)  # as torchrun says, not as params.yaml does
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    process = convoy(two, "train", start=start, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert said.count("train: 2 workers, fp32") == 1
    assert said.count("train: 3 epochs, best") == 1
    for name, tensor in weights(two).items():
        torch.testing.assert_close(tensor, weights(one)[name], atol=1e-5, rtol=0.0)
    history = json.loads((two / "reports" / "history" / "base.json").read_text())
    assert [record["epoch"] for record in history] == [1, 2, 3]
    # Its run is recorded once.
    assert not list((two / ".convoy" / "runs").glob("train-*"))
