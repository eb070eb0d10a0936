from types import SimpleNamespace

import pytest
import torch
from pipeline.runtime.training.plan import plan_training
from safetensors.torch import load_file, save_file

from pipeline.data.shards.statistics import channel_statistics
from pipeline.errors import PipelineError
from pipeline.params import load_params
from pipeline.runtime.registry import versions as registry
from pipeline.runtime.training import initial_weights as start
from pipeline.vision import weights
from pipeline.vision.bundle.digest import bundle_digest
from tests.bundles import save_bundle
from tests.contract.imports import ROOT
from tests.packed import BARS, bars, write_set

PARAMS = load_params(ROOT / "params.yaml")


@pytest.fixture
def folders(tmp_path):
    write_set(tmp_path / "train", *bars(12), BARS)
    write_set(tmp_path / "val", *bars(6, seed=1), BARS)
    return {"images": [tmp_path / "train"], "validation": tmp_path / "val"}


@pytest.fixture
def images(folders):
    return write_set(folders["images"][0], *bars(12), BARS)


@pytest.fixture
def bundle(folders, tmp_path):
    """A bundle with a normalisation of its own."""
    description = plan(folders).description
    description = type(description)(**vars(description) | {"mean": (0.125,), "std": (0.5,)})
    save_bundle(tmp_path / "bundle", description, description.build().state_dict())
    return tmp_path / "bundle"


def plan(folders, address=None, **changes):
    recipe = PARAMS.train.model_copy(update=changes)
    resources = PARAMS.resources.model_copy(update={"address": address})
    params = PARAMS.model_copy(update={"train": recipe, "resources": resources})
    return plan_training(params, recipe, **folders)


def test_random_weights_and_the_statistics_of_the_data(folders, images):
    planned = plan(folders)
    job, description = planned.job, planned.description
    assert job.weights is None
    assert description.origin["weights"] == "random"
    assert (job.mean, job.std) == channel_statistics(images) == (description.mean, description.std)
    assert (job.network, job.args, job.sync_norms) == ("lenet5", {}, True)
    assert job.images == (folders["images"][0].resolve(),)
    assert description.classes == BARS


def test_the_normalisation_is_a_choice(folders, images, bundle):
    of_data = channel_statistics(images)
    grey = ((0.485 + 0.456 + 0.406) / 3,), ((0.229 + 0.224 + 0.225) / 3,)
    for source, asked, expected in (
        (str(bundle), "auto", ((0.125,), (0.5,))),
        (str(bundle), "data", of_data),
        (str(bundle / "model.safetensors"), "auto", of_data),  # nobody knows
        (None, "imagenet", grey),
    ):
        job = plan(folders, weights=source, normalization=asked).job
        assert job.mean == pytest.approx(expected[0])
        assert job.std == pytest.approx(expected[1])


def test_where_weights_come_from(folders, bundle, tmp_path, monkeypatch):
    of_bundle = plan(folders, weights=str(bundle))
    assert of_bundle.job.weights == bundle
    assert of_bundle.description.origin["weights"] == bundle_digest(bundle)

    asked = []
    monkeypatch.setattr(registry, "fetch_bundle", lambda *a: asked.append(a) or bundle)
    registered = plan(folders, weights="models:/digits@champion")
    assert asked == [("models:/digits@champion", PARAMS.tracking)]
    assert registered.job.weights == bundle
    assert registered.description.origin["weights"] == bundle_digest(bundle)

    tensors = {"conv1.weight": torch.ones(2, 2)}
    published = SimpleNamespace(tensors=tensors, mean=(0.25,), std=(0.75,))
    monkeypatch.setattr(weights, "published_weights", lambda *a: asked.append(a) or published)
    named = plan(folders, weights="IMAGENET1K_V1")
    assert asked[-1] == ("lenet5", "IMAGENET1K_V1")
    assert torch.equal(load_file(named.job.weights)["conv1.weight"], tensors["conv1.weight"])
    assert (named.job.mean, named.job.std) == ((0.25,), (0.75,))
    assert named.description.origin["weights"] == "torchvision lenet5 IMAGENET1K_V1"


def test_workers_elsewhere_read_weights_from_the_shared_storage(folders, tmp_path):
    file = tmp_path / "somewhere.safetensors"
    save_file({"w": torch.ones(2)}, file)
    here, there = (plan(folders, address, weights=str(file)) for address in (None, "host:6379"))
    assert here.job.weights == file
    storage = (tmp_path / PARAMS.resources.storage).resolve()
    assert there.job.weights.parent == storage / start._WEIGHTS_FOLDER
    assert there.job.weights.read_bytes() == file.read_bytes()
    assert here.description == there.description


@pytest.mark.parametrize("source", ["none.safetensors", "models/none", "nothing"])
def test_no_such_weights(folders, source):
    with pytest.raises(PipelineError, match=rf"no weights at {source}; set weights in params"):
        plan(folders, weights=source)


def test_a_folder_without_weights(folders, tmp_path):
    with pytest.raises(PipelineError, match="no weights at"):
        plan(folders, weights=str(tmp_path))


def test_sets_that_cannot_train(folders, tmp_path):
    pictures, _ = bars(3)
    write_set(folders["validation"], pictures[:0], [], BARS)
    with pytest.raises(PipelineError, match="the validation set has no images"):
        plan(folders)
    write_set(folders["validation"], *bars(3), ("other", "class", "names"))
    with pytest.raises(PipelineError, match="were packed differently; run dvc repro"):
        plan(folders)
