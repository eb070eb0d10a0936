from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import PipelineError
from pipeline.params import load_params
from pipeline.runtime.registry import versions
from pipeline.runtime.storage.job_context import JobContext
from pipeline.runtime.training.initial_weights import find_initial_weights
from pipeline.vision.bundle.description import Description, Preprocessing
from pipeline.vision.bundle.digest import bundle_digest
from pipeline.vision.training.make_job import InitialWeights
from pipeline.vision.weights import published
from tests.bundles import save_bundle
from tests.contract.imports import ROOT
from tests.packed import BARS

PARAMS = load_params(ROOT / "params.yaml")


@pytest.fixture
def bundle(tmp_path):
    """A bundle with a normalisation of its own."""
    preprocessing = Preprocessing(28, 28, 1, "stretch", 0, 8)
    description = Description("lenet5", {}, BARS, preprocessing, (0.125,), (0.5,))
    save_bundle(tmp_path / "bundle", description, description.build().state_dict())
    return tmp_path / "bundle"


def find(source):
    return find_initial_weights(PARAMS, PARAMS.train.model_copy(update={"weights": source}))


def test_random_weights():
    assert find(None) == InitialWeights(None, "random", None)


def test_a_bundle_brings_its_normalisation(bundle):
    expected = InitialWeights(bundle, bundle_digest(bundle), ((0.125,), (0.5,)))
    assert find(str(bundle)) == expected
    of_file = find(str(bundle / "model.safetensors"))
    assert of_file.weights == bundle / "model.safetensors"
    assert of_file.normalization is None  # a file does not say


def test_weights_from_the_registry(bundle, monkeypatch):
    asked = []
    monkeypatch.setattr(versions, "fetch_bundle", lambda *a: asked.append(a) or bundle)
    found = find("models:/digits@champion")
    assert asked == [("models:/digits@champion", PARAMS.tracking)]
    assert (found.weights, found.origin) == (bundle, bundle_digest(bundle))


def test_published_weights(monkeypatch):
    tensors, asked = {"conv1.weight": torch.ones(2, 2)}, []
    answer = SimpleNamespace(tensors=tensors, mean=(0.25,), std=(0.75,))
    monkeypatch.setattr(published, "published_weights", lambda *a: asked.append(a) or answer)
    found = find("IMAGENET1K_V1")
    assert asked == [("lenet5", "IMAGENET1K_V1")]
    assert torch.equal(load_file(found.weights)["conv1.weight"], tensors["conv1.weight"])
    assert found.normalization == ((0.25,), (0.75,))
    assert found.origin == "torchvision lenet5 IMAGENET1K_V1"


def test_in_a_job_they_are_what_its_sender_found(tmp_path, monkeypatch):
    found = {"weights": "sent/w.safetensors", "origin": "o", "normalization": [[0.5], [0.25]]}
    job = JobContext("identity", 1, str(tmp_path), None, {}, {"train": found})
    monkeypatch.setenv("CONVOY_JOB", job.environment()["CONVOY_JOB"])
    monkeypatch.chdir(tmp_path)
    recipe = PARAMS.train.model_copy(update={"weights": "IMAGENET1K_V1"})
    expected = InitialWeights(tmp_path / "sent" / "w.safetensors", "o", ((0.5,), (0.25,)))
    assert find_initial_weights(PARAMS, recipe, "train") == expected


@pytest.mark.parametrize("source", ["none.safetensors", "models/none", "nothing"])
def test_no_such_weights(source):
    with pytest.raises(PipelineError, match=rf"no weights at {source}; set weights in params"):
        find(source)


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(PipelineError, match="no weights at"):
        find(str(tmp_path))
