import pickle
from dataclasses import replace

import pytest
import torch

from pipeline.data.shards import shards
from pipeline.data.shards.statistics import channel_statistics
from pipeline.errors import PipelineError
from pipeline.params import load_params
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.training import versions
from pipeline.vision.training.batches import Share
from pipeline.vision.training.building import build_network, build_trainer
from pipeline.vision.training.compute_config import ComputeConfig
from pipeline.vision.training.job import Job
from pipeline.vision.training.make_job import InitialWeights, make_job, make_trial_job
from pipeline.vision.training.versions import code_digest, library_versions
from tests.contract.imports import ROOT
from tests.packed import BARS, bars, write_set, write_sets

PARAMS = load_params(ROOT / "params.yaml")
CPU = torch.device("cpu")


@pytest.fixture
def sets(tmp_path):
    write_sets(tmp_path, 90, 30)
    return tmp_path


def make(sets, model=PARAMS.model, **changes):
    return make_job(
        "train",
        model,
        PARAMS.train.model_copy(update=changes),
        images=[sets / "train"],
        validation=sets / "val",
        initial=InitialWeights(),
    )


def identity(job, compute=None, versions=None, code="code"):
    return job.identity(compute, versions or {"torch": "2"}, code)


def test_sets_are_opened_once_in_each_process(sets, monkeypatch):
    opened, open_one = [], shards._map_shard
    monkeypatch.setattr(shards, "_map_shard", lambda path: opened.append(path) or open_one(path))
    job = make(sets)
    paths = sorted(sets.glob("*/shard-*.arrow"))
    assert sorted(opened) == paths
    job.check_shares(2)
    build_trainer(job, Share(), CPU, ComputeConfig()).advance(1)
    assert sorted(opened) == paths
    # Elsewhere, they are opened by those who need them, once.
    arrived = pickle.loads(pickle.dumps(job))
    assert sorted(opened) == paths
    for _ in range(2):
        build_trainer(arrived, Share(), CPU, ComputeConfig())
    assert sorted(opened) == sorted(paths * 2)


def test_a_job_travels_as_plain_values(sets):
    job = make(sets)
    assert len(job.training_set) == 90
    content = pickle.dumps(job)
    assert len(content) < 10_000  # not the images
    assert b"ImageSet" not in content
    assert pickle.loads(content) == job


def test_channel_statistics_are_computed_once(sets, monkeypatch):
    counted = []
    monkeypatch.setattr(
        "pipeline.vision.training.make_job.channel_statistics",
        lambda images: counted.append(1) or channel_statistics(images),
    )
    job = make(sets)
    build_trainer(job, Share(), CPU, ComputeConfig()).advance(1)
    assert counted == [1]


def test_the_description_of_what_comes_out(sets):
    job = make(sets)
    compute = Arithmetic("bf16", "channels_last")
    described = job.description({"loss": 0.5}, compute)
    assert described.compute == compute
    assert described.validation == {"loss": 0.5}
    assert described.classes == BARS
    assert (described.mean, described.std) == (job.mean, job.std)
    assert described.preprocessing == job.training_set.info.preprocessing
    assert described.origin["data"] == job.images_digest
    assert described.origin["validation"] == job.validation_digest
    assert described.origin["weights"] == "random"
    network, _ = build_network(job)
    assert described.build().state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize(
    "change",
    [
        {"images_digest": "other"},
        {"validation_digest": "other"},
        {"network": "resnet20"},
        {"args": {"dropout": 0.5}},
        {"origin": "other weights"},
        {"mean": (0.5,)},
        {"classes": ("a", "b", "c")},
    ],
)
def test_all_that_the_outcome_depends_on_is_in_the_identity(sets, change):
    job = make(sets)
    assert identity(replace(job, **change)) != identity(job)


@pytest.mark.parametrize(
    "change", [{"precision": "bf16"}, {"sync_batch_norm": False}, {"mixup_alpha": 0.7}, {"seed": 9}]
)
def test_the_whole_recipe_is_in_the_identity(sets, change):
    assert identity(make(sets, **change)) != identity(make(sets))


def test_arithmetic_libraries_and_code_are_in_the_identity(sets):
    job = make(sets)
    found = [
        identity(job),
        identity(job, Arithmetic("fp32", "channels_last")),
        identity(job, Arithmetic("fp32")),
        identity(job, versions={"torch": "3"}),
        identity(job, code="other"),
    ]
    assert len(set(found)) == len(found)


def test_where_files_lie_is_not_in_the_identity(sets, tmp_path):
    job = make(sets)
    moved = replace(
        job, stage="finetune", images=(tmp_path / "a",), validation=tmp_path / "b", weights=tmp_path
    )
    assert identity(moved) == identity(job)


def test_another_image_is_another_training(sets):
    before = identity(make(sets))
    write_set(sets / "val", *bars(30, seed=2), BARS)
    after = identity(make(sets))
    assert after != before


def test_libraries_are_known_without_being_imported():
    import numpy as np

    found = library_versions()
    assert found["torch"] == torch.__version__.partition("+")[0] or found["torch"] == str(
        torch.__version__
    )
    assert found["numpy"] == np.__version__
    assert set(found) == {"torch", "torchvision", "numpy"}


def test_the_code_that_decides_is_hashed(tmp_path, monkeypatch):
    assert all(folder.is_dir() for folder in versions._FOLDERS)
    (tmp_path / "code").mkdir()
    (tmp_path / "code/loss.py").write_text("a = 1")
    monkeypatch.setattr(versions, "_FOLDERS", (tmp_path / "code",))
    before = code_digest()
    (tmp_path / "code/loss.py").write_text("a = 2")
    assert code_digest() != before


def test_batches_that_cannot_be_shared_out(sets):
    job = make(sets, global_batch_size=8, accumulate=2)
    job.check_shares(3)
    with pytest.raises(PipelineError, match="batches of 7 images cannot be shared out to 4"):
        job.check_shares(4)
    assert isinstance(job, Job)


def test_a_trial_reads_no_images(sets, monkeypatch):
    def refuse(*_):
        raise AssertionError

    for name in ("channel_statistics", "images_digest"):
        monkeypatch.setattr(f"pipeline.vision.training.make_job.{name}", refuse)
    folders = {"images": [sets / "train"], "validation": sets / "val"}
    job = make_trial_job("train", PARAMS.model, PARAMS.train, **folders)
    assert (job.weights, job.classes) == (None, BARS)
