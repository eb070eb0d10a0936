"""A training of seconds, run by Ray or alone, and what must be equal afterwards."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.runtime.ray.fit import fit
from pipeline.runtime.session.run_folder import RunFolder
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.training.batches import Share
from pipeline.vision.training.building import build_trainer
from pipeline.vision.training.checkpoint import BEST_FILE
from pipeline.vision.training.compute_config import ComputeConfig
from pipeline.vision.training.training_state import read_training_state
from tests.jobs import job_on

ARITHMETIC = Arithmetic("fp32", "channels_last")


class News:
    """Keeps the events of a training."""

    def __init__(self, wants_system_metrics=False):
        self.wants_system_metrics = wants_system_metrics
        self.begun, self.facts, self.records, self.glances, self.samples = 0, [], [], [], []

    def begin(self, logs):  # noqa: ARG002
        self.begun += 1

    def compute(self, arithmetic, text):
        assert text.split(", ", 1)[1].startswith(str(arithmetic))
        self.facts.append(("compute", text))

    def fact(self, name, text):
        self.facts.append((name, text))

    def system_metrics(self, *sample):
        self.samples.append(sample)

    def record(self, record):
        self.records.append(record)

    def epoch_progress(self, epoch_progress):
        self.glances.append(epoch_progress)


def make_job(params, sets, **changes):
    values = params.train.model_dump(mode="json")
    values |= {
        "epochs": 3,
        "global_batch_size": 16,
        "mixup_alpha": 0.3,
        "precision": "fp32",
    } | changes
    values["early_stopping"] = {
        "metric": "loss",
        "patience": 1000,
        "min_delta": 0.0,
        "keep": "best",
    }
    recipe = type(params.train).model_validate(values, strict=False)
    return job_on(sets, recipe)


def few(params, **changes):
    """Return resources for one small worker on a local cluster."""
    values = {"workers": 1, "cpus_per_worker": 1, "checkpoint_interval_s": 0.0}
    values |= {"threads": 1}
    return params.resources.model_copy(update=values | changes)


def run(job, resources, folder, news=None):
    """Train on Ray and return the last checkpoint."""
    checkpoint, used = fit(job, ARITHMETIC, resources, folder, news or News())
    assert used == ARITHMETIC
    return checkpoint


def chosen(folder):
    """Return how the workers of a run computed: other orders of memory round differently."""
    files = [json.loads(file.read_text()) for file in (folder.storage / "compute").iterdir()]
    values = files[0]
    assert files == [values] * len(files)  # one for each number of workers
    return ComputeConfig(Arithmetic.of(values["arithmetic"]), values["threads"])


def alone(job, compute):
    """Train in this process, without Ray, and return the trainer."""
    trainer = build_trainer(job, Share(), torch.device("cpu"), compute)
    while not trainer.done:
        trainer.advance(1000)
    return trainer


def assert_same_training(checkpoint, expected, tolerance=1e-6):
    """Compare losses and weights with those of a training that nobody disturbed."""
    progress = read_training_state(checkpoint)
    for found, wanted in zip(progress.history, expected.state.history, strict=True):
        for key in ("train_loss", "val_loss"):
            assert found[key] == pytest.approx(wanted[key], abs=tolerance)
    best = load_file(checkpoint / BEST_FILE)
    for name, wanted in expected.best_weights.items():
        assert torch.allclose(best[name], wanted, atol=tolerance), name


def folder_in(tmp_path: Path, name="run"):
    return RunFolder(tmp_path / "storage", name)
