import os
import subprocess
import sys

import pytest

from tests.contract.imports import ROOT
from tests.packed import write_sets

# What a worker does from its first import to its second checkpoint.
TRAIN = """
import sys
from pathlib import Path
import torch
from pipeline.params import load_params
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.training.building import build_trainer
from pipeline.vision.training.batches import Share
from pipeline.vision.training.compute_config import ComputeConfig
from tests.jobs import RECIPE, job_on

recipe = RECIPE.model_copy(update={{"clip_norm": 1.0, "ema_decay": 0.9, "mixup_alpha": 0.3}})
job = job_on([Path("train"), Path("val")], recipe, "{network}")
trainer = build_trainer(job, Share(), torch.device("cpu"), ComputeConfig(Arithmetic("bf16"), 1))
while trainer.state.epochs_done < 1:
    trainer.advance(1)
trainer.save(Path("checkpoint"))
trainer.restore(Path("checkpoint"))
trainer.advance(1)
print(*{{"torch._dynamo", "sympy", "torchvision"}} & set(sys.modules))
import torch._dynamo
assert callable(torch._dynamo.disable)
"""


@pytest.mark.parametrize(("network", "loaded"), [("lenet5", ""), ("squeezenet1_1", "torchvision")])
def test_a_training_loads_neither_torchs_compiler_nor_what_its_network_needs_not(
    tmp_path, monkeypatch, network, loaded
):
    """The compiler takes a second to import. A new version of torch may find another way to it."""
    monkeypatch.chdir(tmp_path)
    write_sets(tmp_path, 32, 9, size=32)
    code = TRAIN.format(network=network)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == loaded
