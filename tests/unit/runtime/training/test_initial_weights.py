from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.data.packing.preprocess import Preprocessing
from pipeline.errors import PipelineError
from pipeline.params import load_params
from pipeline.runtime.registry import versions as registry
from pipeline.runtime.training import initial_weights as start
from pipeline.runtime.training.initial_weights import find_initial_weights
from pipeline.vision.bundle.description import Description
from pipeline.vision.bundle.digest import bundle_digest
from pipeline.vision.training.make_job import InitialWeights
from pipeline.vision.weights import published as published_module
from tests.bundles import save_bundle
from tests.contract.imports import ROOT
from tests.packed import BARS

PARAMS = load_params(ROOT / "params.yaml")


@pytest.fixture
def bundle(tmp_path):
    """A bundle with a normalisation of its own."""
    preprocessing = Preprocessing(16, 16, 1, "stretch", 0, 8)
    description = Description("lenet5", {}, BARS, preprocessing, (0.125,), (0.5,))
    save_bundle(tmp_path / "bundle", description, description.build().state_dict())
    return tmp_path / "bundle"


def find(weights, address=None):
    recipe = PARAMS.train.model_copy(update={"weights": weights})
    resources = PARAMS.resources.model_copy(update={"address": address})
    return find_initial_weights(PARAMS.model_copy(update={"resources": resources}), recipe)


def test_random_weights():
    assert find(None) == InitialWeights(None, "random", None)


def test_weights_without_a_bundle_say_nothing_of_their_normalisation(bundle):
    found = find(str(bundle / "model.safetensors"))
    assert found.weights == bundle / "model.safetensors"
    assert found.normalization is None


def test_where_weights_come_from(bundle, monkeypatch):
    of_bundle = InitialWeights(bundle, bundle_digest(bundle), ((0.125,), (0.5,)))
    assert find(str(bundle)) == of_bundle

    asked = []
    monkeypatch.setattr(registry, "fetch_bundle", lambda *a: asked.append(a) or bundle)
    assert find("models:/digits@champion") == of_bundle
    assert asked == [("models:/digits@champion", PARAMS.tracking)]

    tensors = {"conv1.weight": torch.ones(2, 2)}
    published = SimpleNamespace(tensors=tensors, mean=(0.25,), std=(0.75,))
    monkeypatch.setattr(
        published_module, "published_weights", lambda *a: asked.append(a) or published
    )
    named = find("IMAGENET1K_V1")
    assert asked[-1] == ("lenet5", "IMAGENET1K_V1")
    assert torch.equal(load_file(named.weights)["conv1.weight"], tensors["conv1.weight"])
    assert named.normalization == ((0.25,), (0.75,))
    assert named.origin == "torchvision lenet5 IMAGENET1K_V1"


def test_workers_elsewhere_read_weights_from_the_shared_storage(tmp_path):
    file = tmp_path / "somewhere.safetensors"
    save_file({"w": torch.ones(2)}, file)
    here, there = (find(str(file), address) for address in (None, "host:6379"))
    assert here.weights == file
    storage = (tmp_path / PARAMS.resources.storage).resolve()
    assert there.weights.parent == storage / start._WEIGHTS_FOLDER
    assert there.weights.read_bytes() == file.read_bytes()
    assert here.origin == there.origin


@pytest.mark.parametrize("source", ["none.safetensors", "models/none", "nothing"])
def test_no_such_weights(source):
    with pytest.raises(PipelineError, match=rf"no weights at {source}; set weights in params"):
        find(source)


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(PipelineError, match="no weights at"):
        find(str(tmp_path))
