import json

import numpy as np
import pytest
import torch

from pipeline.data.prepare import Preparing
from pipeline.errors import PipelineError
from pipeline.vision.bundle import load_bundle
from pipeline.vision.description import Description
from pipeline.vision.digest import bundle_digest
from pipeline.vision.predict import embeddings, probabilities
from tests.bundles import save_bundle


@pytest.fixture
def description():
    preparing = Preparing(28, 28, 1, "pad", 7, 8)
    return Description("lenet5", {}, ("cat", "dog"), preparing, (0.3,), (0.2,), {"data": "d"}, {})


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


def test_probabilities_recomputed(description, tmp_path):
    network = description.build().eval()
    save_bundle(tmp_path / "m", description, network.state_dict())
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28, 1)).astype(np.uint8)
    with torch.inference_mode():
        inputs = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.3) / 0.2
        expected = network(inputs.float()).softmax(1)
    bundle = load_bundle(tmp_path / "m")
    given = probabilities(bundle, [images[:3], images[3:]])
    assert given == pytest.approx(expected.numpy(), abs=1e-6)
    assert given.sum(axis=1) == pytest.approx(np.ones(5))
    assert embeddings(bundle, [images]).shape == (5, 84)
    flipped = probabilities(bundle, [images], view=lambda batch: batch.flip(3))
    assert flipped == pytest.approx(probabilities(bundle, [images[:, :, ::-1].copy()]))


def test_no_images_give_no_rows(description, tmp_path):
    save_bundle(tmp_path / "m", description, description.build().state_dict())
    bundle = load_bundle(tmp_path / "m")
    assert probabilities(bundle, []).shape == (0, 2)
    assert embeddings(bundle, []).shape == (0, 84)


def test_sixteen_bit_pixels_are_scaled_by_their_own_range():
    images = np.array([[[[65535]]], [[[257 * 51]]]], np.uint16)
    assert to_unit(images).flatten().tolist() == pytest.approx([1.0, 0.2])


def test_a_folder_without_a_bundle(tmp_path):
    with pytest.raises(PipelineError, match=r"is not a model bundle: bundle\.json is missing"):
        load_bundle(tmp_path)
    with pytest.raises(PipelineError, match=r"bundle\.json is missing.*such as models/tuned"):
        bundle_digest(tmp_path)


def test_a_bundle_of_another_format(description, tmp_path):
    save_bundle(tmp_path / "m", description, description.build().state_dict())
    path = tmp_path / "m" / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))
    with pytest.raises(PipelineError, match="has format 99, this Convoy reads 1"):
        load_bundle(tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": ["a"]}, "holds a wrong value: could not"),
        ({"preparing": {}}, "holds a wrong value"),
    ],
)
def test_a_bundle_with_wrong_values(description, tmp_path, change, message):
    save_bundle(tmp_path / "m", description, description.build().state_dict())
    path = tmp_path / "m" / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(PipelineError, match=message):
        load_bundle(tmp_path / "m")


def test_weights_of_another_network(description, tmp_path):
    save_bundle(tmp_path / "m", description, {"x": torch.zeros(1)})
    with pytest.raises(PipelineError, match=r"model\.safetensors does not hold a lenet5"):
        load_bundle(tmp_path / "m")


def test_damaged_description(description, tmp_path):
    save_bundle(tmp_path / "m", description, description.build().state_dict())
    (tmp_path / "m" / "bundle.json").write_text('{"format": 1, "netw')
    with pytest.raises(PipelineError, match=r"bundle\.json is damaged"):
        load_bundle(tmp_path / "m")
