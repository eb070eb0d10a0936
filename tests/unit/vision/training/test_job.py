"""What a job is made of, and what tells two trainings apart."""

import pickle
from dataclasses import replace

import pytest

from pipeline.data.shards.statistics import channel_statistics, images_digest
from pipeline.errors import PipelineError
from pipeline.params import load_params
from pipeline.vision.bundle.arithmetic import Arithmetic
from pipeline.vision.training import make_job as module
from pipeline.vision.training.make_job import InitialWeights, make_job, make_trial_job
from pipeline.vision.training.versions import code_digest, library_versions
from tests.contract.imports import ROOT
from tests.packed import BARS, bars, write_set

PARAMS = load_params(ROOT / "params.yaml")
FP32 = Arithmetic("fp32", "channels_last")


@pytest.fixture
def sets(tmp_path):
    write_set(tmp_path / "train", *bars(12), BARS)
    write_set(tmp_path / "val", *bars(6, seed=1), BARS)
    return {"images": [tmp_path / "train"], "validation": tmp_path / "val"}


def job_of(sets, initial=InitialWeights(), **changes):  # noqa: B008 - frozen
    recipe = PARAMS.train.model_copy(update=changes)
    return make_job("train", PARAMS.model, recipe, **sets, initial=initial)


def identity(job, arithmetic=FP32, versions=None, code="code"):
    return job.identity(arithmetic, versions or {"torch": "1"}, code)


def test_a_job_says_what_is_trained(sets):
    job = job_of(sets)
    assert job.weights is None
    assert (job.mean, job.std) == channel_statistics(job.training_set)
    assert (job.network, job.args, job.classes) == ("lenet5", {}, BARS)
    assert job.images == (sets["images"][0].resolve(),)
    assert job.images_digest == images_digest(sets["images"])
    description = job.description({"loss": 0.5}, FP32)
    assert (description.mean, description.std) == (job.mean, job.std)
    assert (description.compute, description.validation) == (FP32, {"loss": 0.5})
    assert description.origin["data"] == job.images_digest
    assert description.origin["weights"] == "random"


def test_the_normalisation_is_a_choice(sets):
    grey = ((0.485 + 0.456 + 0.406) / 3,), ((0.229 + 0.224 + 0.225) / 3,)
    of_data = channel_statistics(job_of(sets).training_set)
    known, unknown = InitialWeights(None, "w", ((0.125,), (0.5,))), InitialWeights(None, "w")
    for initial, asked, expected in (
        (known, "auto", ((0.125,), (0.5,))),
        (known, "data", of_data),
        (unknown, "auto", of_data),
        (unknown, "imagenet", grey),
    ):
        job = job_of(sets, initial, normalization=asked)
        assert job.mean == pytest.approx(expected[0])
        assert job.std == pytest.approx(expected[1])


def test_the_identity_holds_all_that_the_outcome_depends_on(sets, tmp_path):
    job = job_of(sets)
    same = identity(job)
    assert identity(job_of(sets)) == same
    others = {
        "precision": identity(job_of(sets, precision="bf16")),
        "norms": identity(job_of(sets, sync_batch_norm=False)),
        "epochs": identity(job_of(sets, epochs=31)),
        "weights": identity(job_of(sets, InitialWeights(None, "other"))),
        "arithmetic": identity(job, Arithmetic("bf16", "channels_last")),
        "memory format": identity(job, Arithmetic("fp32", "contiguous_format")),
        "versions": identity(job, versions={"torch": "2"}),
        "code": identity(job, code="other"),
        "network": identity(replace(job, network="resnet20")),
    }
    write_set(tmp_path / "val", *bars(7, seed=2), BARS)
    others["validation set"] = identity(job_of(sets))
    assert same not in others.values()
    assert len(set(others.values())) == len(others)


def test_where_files_lie_is_no_part_of_the_identity(sets, tmp_path):
    job = job_of(sets)
    moved = replace(job, images=(tmp_path / "elsewhere",), validation=tmp_path / "there")
    assert identity(moved) == identity(job)


def test_versions_and_code_of_what_computes():
    assert set(library_versions()) == {"torch", "torchvision", "numpy"}
    assert len(code_digest()) == 64


def test_sets_are_opened_once_in_a_process_and_stay_there(sets, monkeypatch):
    opened = []
    original = module.ImageSet.open
    monkeypatch.setattr(module.ImageSet, "open", lambda *a: opened.append(a) or original(*a))
    job = job_of(sets)
    for _ in range(3):
        assert len(job.training_set) == 12
        assert len(job.validation_set) == 6
    job.check_shares(1)
    assert len(opened) == 2
    travelled = pickle.loads(pickle.dumps(job))
    assert vars(travelled).keys() == travelled.__dataclass_fields__.keys()
    assert len(travelled.training_set) == len(travelled.training_set) == 12
    assert len(opened) == 3


def test_a_trial_reads_no_images(sets, monkeypatch):
    def refuse(*_):
        raise AssertionError

    for name in ("channel_statistics", "images_digest"):
        monkeypatch.setattr(module, name, refuse)
    job = make_trial_job("train", PARAMS.model, PARAMS.train, **sets)
    assert (job.weights, job.classes) == (None, BARS)


def test_sets_that_cannot_train(sets):
    pictures, _ = bars(3)
    write_set(sets["validation"], pictures[:0], [], BARS)
    with pytest.raises(PipelineError, match="the validation set has no images"):
        job_of(sets)
    write_set(sets["validation"], *bars(3), ("other", "class", "names"))
    with pytest.raises(PipelineError, match="were packed differently; run dvc repro"):
        job_of(sets)
