import pytest
import torch

from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.errors import PipelineError
from pipeline.vision.bundle.description import Description
from pipeline.vision.bundle.digest import bundle_digest
from pipeline.vision.inference.bundle import load_bundle
from tests.bundles import save_bundle


@pytest.fixture
def description():
    preprocessing = Preprocessing(28, 28, 1, "pad", 7, 8)
    return Description(
        "lenet5", {}, ("cat", "dog"), preprocessing, (0.3,), (0.2,), {"data": "d"}, {}
    )


def test_a_bundle_comes_back_as_it_was(description, tmp_path):
    network = description.build()
    save_bundle(tmp_path / "m", description, network.state_dict())
    bundle = load_bundle(tmp_path / "m")
    assert bundle.description == description
    assert not bundle.network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(bundle.network.state_dict()[name], tensor)


def test_equal_models_have_equal_digests_and_others_do_not(description, tmp_path):
    network = description.build()
    save_bundle(tmp_path / "a", description, network.state_dict())
    save_bundle(tmp_path / "b", description, network.state_dict())
    assert bundle_digest(tmp_path / "a") == bundle_digest(tmp_path / "b")
    network.head.bias.data += 1
    save_bundle(tmp_path / "b", description, network.state_dict())
    assert bundle_digest(tmp_path / "a") != bundle_digest(tmp_path / "b")


def test_a_folder_without_a_bundle(tmp_path):
    with pytest.raises(PipelineError, match=r"is not a model bundle: bundle\.json is missing"):
        load_bundle(tmp_path)
    with pytest.raises(PipelineError, match=r"bundle\.json is missing.*such as models/final"):
        bundle_digest(tmp_path)


def test_weights_of_another_network(description, tmp_path):
    save_bundle(tmp_path / "m", description, {"x": torch.zeros(1)})
    with pytest.raises(PipelineError, match=r"model\.safetensors does not hold a lenet5"):
        load_bundle(tmp_path / "m")


def test_one_wrong_bit_among_the_weights(description, tmp_path):
    save_bundle(tmp_path / "m", description, description.build().state_dict())
    load_bundle(tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(PipelineError, match=r"model\.safetensors is damaged or another's"):
        load_bundle(tmp_path / "m")
