import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import PipelineError
from pipeline.vision.networks import build_network
from pipeline.vision.weights.loading import load_tensors, load_weights, weights_file
from tests.contract.imports import ROOT

SHARED = ROOT.parent / "shared" / "weights"
CIFAR10 = SHARED / "resnet20-cifar10.safetensors"
IMAGENET = SHARED / "squeezenet1_0-imagenet.safetensors"


@pytest.fixture
def network():
    return build_network("resnet20", {}, (3, 32, 32), 5)


def plain_file(network, head):
    """The network's tensors as other programs name them, with `head` as the last layer's name."""
    return {
        name.removeprefix("extractor.").replace("head.", f"{head}."): tensor.clone()
        for name, tensor in network.state_dict().items()
    }


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
    # Counters of batches decide nothing and are not told.
    assert loaded.new == ("head.weight", "head.bias")
    assert str(loaded) == (
        f"{len(tensors)} tensors loaded, 1 skipped (linear.weight), 2 new (head.weight, head.bias)"
    )


def test_a_head_of_other_classes_is_left_out_whatever_it_is_called(network):
    source = build_network("resnet20", {}, (3, 32, 32), 5)
    for tensors in (source.state_dict(), plain_file(source, "linear")):
        before = network.head.weight.clone()
        loaded = load_tensors(network, tensors, "a test", head=False)
        assert len(loaded.skipped) == 2
        assert loaded.new == ("head.weight", "head.bias")
        assert torch.equal(network.head.weight, before)


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet20", "linear"),
        ("resnet18", "fc"),
        ("mobilenet_v3_small", "classifier.3"),
        ("lenet5", "fc3"),
    ],
)
def test_as_many_classes_take_the_last_dense_layer_too(name, head):
    source = build_network(name, {}, (3, 32, 32), 4)
    network = build_network(name, {}, (3, 32, 32), 4)
    loaded = load_tensors(network, plain_file(source, head), "a test")
    assert not loaded.skipped
    assert not loaded.new
    for own, other in zip(network.parameters(), source.parameters(), strict=True):
        assert torch.equal(own, other)


def test_a_convolution_in_the_place_of_the_head_is_skipped():
    """SqueezeNet applies a ReLU and averages after its last convolution: no linear head."""
    network = build_network("squeezenet1_1", {}, (3, 32, 32), 4)
    tensors = plain_file(network, "elsewhere") | {"classifier.1.weight": torch.ones(4, 512, 1, 1)}
    loaded = load_tensors(network, tensors, "a test")
    assert set(loaded.skipped) == {"elsewhere.weight", "elsewhere.bias", "classifier.1.weight"}
    assert loaded.new == ("head.weight", "head.bias")


@pytest.mark.parametrize("channels", [1, 4])
def test_the_first_convolution_is_adapted_to_the_channels(network, channels):
    other = build_network("resnet20", {}, (channels, 32, 32), 5)
    loaded = load_tensors(other, plain_file(network, "linear"), "a test")
    assert loaded.adapted == ("extractor.conv1.weight",)
    assert "1 adapted to the number of channels (extractor.conv1.weight)" in str(loaded)
    assert not loaded.skipped
    assert not loaded.new
    grey = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    network.eval(), other.eval()
    with torch.inference_mode():
        expected = network(grey.expand(-1, 3, -1, -1))
        assert torch.allclose(other(grey.expand(-1, channels, -1, -1)), expected, atol=1e-4)


def test_a_first_convolution_of_another_size_is_skipped(network):
    tensors = plain_file(network, "linear")
    tensors["conv1.weight"] = torch.zeros(16, 1, 5, 5)
    loaded = load_tensors(network, tensors, "a test")
    assert loaded.skipped == ("conv1.weight",)
    assert loaded.new == ("extractor.conv1.weight",)


def test_our_own_weights_fill_everything(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "own.safetensors")
    other = build_network("resnet20", {}, (3, 32, 32), 5)
    loaded = load_weights(other, tmp_path / "own.safetensors")
    assert not loaded.skipped
    assert not loaded.new
    assert torch.equal(other.head.weight, network.head.weight)


def test_half_precision_is_widened(network):
    tensors = {name: tensor.half() for name, tensor in plain_file(network, "linear").items()}
    other = build_network("resnet20", {}, (1, 32, 32), 5)
    load_tensors(other, tensors, "a test")
    assert {p.dtype for p in other.parameters()} == {torch.float32}


def test_weights_that_fit_nothing(network, tmp_path):
    save_file({"foo": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(PipelineError, match=r"nothing in .*other\.safetensors fits.*has foo"):
        load_weights(network, tmp_path / "other.safetensors")


def test_weights_of_which_only_the_counters_fit(network):
    """Those of any network with norms of the same names do."""
    tensors = {
        name: tensor if tensor.ndim == 0 else torch.zeros(7, 7)
        for name, tensor in network.state_dict().items()
    }
    with pytest.raises(PipelineError, match=r"nothing in another's fits the network"):
        load_tensors(network, tensors, "another's")


def test_missing_weights(network, tmp_path):
    with pytest.raises(PipelineError, match=r"no weights at .*set weights in params\.yaml"):
        load_weights(network, tmp_path / "none.safetensors")


def test_a_truncated_file(network, tmp_path):
    save_file(network.state_dict(), tmp_path / "half.safetensors")
    content = (tmp_path / "half.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(PipelineError, match="is not a whole safetensors file"):
        load_weights(network, tmp_path / "half.safetensors")


def test_a_bundle_folder_stands_for_its_weights(network, tmp_path):
    assert weights_file(tmp_path) == tmp_path / "model.safetensors"
    assert weights_file(tmp_path / "a.safetensors") == tmp_path / "a.safetensors"
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    assert not load_weights(network, tmp_path).new


@pytest.mark.skipif(not IMAGENET.exists(), reason="the published file is not here")
def test_a_published_squeezenet_fills_its_extractor():
    network = build_network("squeezenet1_0", {}, (3, 64, 64), 10)
    loaded = load_weights(network, IMAGENET)
    tensors = load_file(IMAGENET)
    extractor = network.extractor.state_dict()
    assert set(loaded.loaded) == {f"extractor.{name}" for name in extractor}
    assert all(torch.equal(extractor[name], tensors[name]) for name in extractor)
    assert set(loaded.skipped) == {"classifier.1.weight", "classifier.1.bias"}
    assert loaded.new == ("head.weight", "head.bias")


@pytest.mark.skipif(not CIFAR10.exists(), reason="the published file is not here")
@pytest.mark.parametrize("classes", [10, 7])
def test_a_published_resnet20_fills_everything_if_the_classes_are_as_many(classes):
    network = build_network("resnet20", {}, (3, 32, 32), classes)
    loaded = load_weights(network, CIFAR10)
    tensors = load_file(CIFAR10)
    expected = tensors["linear.weight"]
    if classes == 10:
        assert len(loaded.loaded) == len(tensors)
        assert not loaded.skipped
        assert not loaded.new
        assert torch.equal(network.head.weight, expected)
    else:
        assert set(loaded.skipped) == {"linear.weight", "linear.bias"}
        assert loaded.new == ("head.weight", "head.bias")
