import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import PipelineError
from pipeline.vision.networks import build_network
from pipeline.vision.weights import load_weights, weights_file


@pytest.fixture
def network():
    return build_network("resnet20", {}, (3, 32, 32), 5)


def test_a_plain_network_fills_the_extractor_and_the_head_stays_new(network, tmp_path):
    source = build_network("resnet20", {}, (3, 32, 32), 10)
    tensors = {f"{k}": v + 1.0 for k, v in source.extractor.state_dict().items() if v.ndim}
    save_file(tensors | {"linear.weight": torch.zeros(10, 64)}, tmp_path / "net.safetensors")
    head = network.head.weight.clone()
    loaded = load_weights(network, tmp_path / "net.safetensors")
    for name, tensor in tensors.items():
        assert torch.equal(network.extractor.state_dict()[name], tensor)
    assert torch.equal(network.head.weight, head)
    assert loaded.skipped == ("linear.weight",)
    assert {"head.weight", "head.bias"} <= set(loaded.new)
    assert f"{len(tensors)} tensors loaded, 1 skipped (linear.weight)" in str(loaded)


def test_our_own_weights_fill_everything(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "own.safetensors")
    other = build_network("resnet20", {}, (3, 32, 32), 5)
    loaded = load_weights(other, tmp_path / "own.safetensors")
    assert not loaded.skipped
    assert not loaded.new
    assert torch.equal(other.head.weight, network.head.weight)


def test_weights_that_fit_nothing(network, tmp_path):
    save_file({"foo": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(PipelineError, match=r"nothing in .*other\.safetensors fits.*has foo"):
        load_weights(network, tmp_path / "other.safetensors")


def test_missing_weights(network, tmp_path):
    with pytest.raises(PipelineError, match=r"no weights at .*set weights in params\.yaml"):
        load_weights(network, tmp_path / "none.safetensors")


def test_a_truncated_file(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "half.safetensors")
    content = (tmp_path / "half.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(PipelineError, match="is not a whole safetensors file"):
        load_weights(network, tmp_path / "half.safetensors")


def test_a_bundle_folder_stands_for_its_weights(tmp_path):
    assert weights_file(tmp_path) == tmp_path / "model.safetensors"
    assert weights_file(tmp_path / "a.safetensors") == tmp_path / "a.safetensors"
