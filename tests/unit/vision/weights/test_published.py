import dataclasses
import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from pipeline.errors import PipelineError
from pipeline.vision._torchvision import import_torchvision
from pipeline.vision.networks import build_network
from pipeline.vision.networks.families import REPLACED
from pipeline.vision.weights.loading import load_tensors
from pipeline.vision.weights.normalization import IMAGENET_MEAN, IMAGENET_STD, for_channels
from pipeline.vision.weights.published import is_published, published_weights

NAME = "squeezenet1_1"


@pytest.fixture
def entry():
    """torchvision's entry of squeezenet1_1's only weights."""
    return import_torchvision().models.get_model_weights(NAME).IMAGENET1K_V1


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "torch" / "hub" / "checkpoints"


def original(name=NAME, seed=5):
    """A state dict of torchvision's own network, with random values."""
    torch.manual_seed(seed)
    return getattr(import_torchvision().models, name)().state_dict()


def put(folder, file_name, tensors):
    folder.mkdir(parents=True)
    torch.save(tensors, folder / file_name)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def serve(tmp_path, entry, monkeypatch):
    """Serve a folder on loopback in the place of the published address."""
    folder = tmp_path / "served"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def publish(tensors, hash_prefix=None):
        put(folder, "weights.pth", tensors)
        content = (folder / "weights.pth").read_bytes()
        name = f"net-{hash_prefix or hashlib.sha256(content).hexdigest()[:8]}.pth"
        (folder / "weights.pth").rename(folder / name)
        url = f"http://127.0.0.1:{server.server_port}/{name}"
        monkeypatch.setattr(entry, "_value_", dataclasses.replace(entry.value, url=url))
        return url

    yield publish
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_counts_as_a_name():
    for name in ("IMAGENET1K_V1", "DEFAULT", "IMAGENET1K_SWAG_E2E_V1"):
        assert is_published(name)
    for other in ("models/base", "net.safetensors", "Weights", "models:/a@b", "1K", ""):
        assert not is_published(other)


@pytest.mark.parametrize("name", ["IMAGENET1K_V1", "DEFAULT"])
def test_a_file_in_the_cache_is_loaded_exactly(cache, entry, name):
    tensors = original()
    put(cache, entry.url.rpartition("/")[2], tensors)
    published = published_weights(NAME, name)
    assert published.mean == IMAGENET_MEAN
    assert published.std == IMAGENET_STD
    network = build_network(NAME, {}, (3, 32, 32), 1000)
    loaded = load_tensors(network, published.tensors, name)
    extractor = network.extractor.state_dict()
    assert len(loaded.loaded) == len(extractor)
    assert all(torch.equal(extractor[name], tensors[name]) for name in extractor)


def test_a_real_download_is_checked_kept_and_not_repeated(cache, serve):
    tensors = original()
    url = serve(tensors)
    first = published_weights(NAME, "IMAGENET1K_V1")
    assert [path.name for path in cache.iterdir()] == [url.rpartition("/")[2]]
    kept = cache / url.rpartition("/")[2]
    time = kept.stat().st_mtime_ns
    again = published_weights(NAME, "IMAGENET1K_V1")
    assert kept.stat().st_mtime_ns == time
    for found in (first, again):
        assert found.tensors.keys() == tensors.keys()
        assert all(torch.equal(found.tensors[name], tensors[name]) for name in tensors)


def test_a_download_of_another_hash_is_refused_and_not_kept(cache, serve):
    url = serve(original(), hash_prefix="0badc0de")
    expected = rf"cannot download {url} \(invalid hash value .*0badc0de.* put the file at {cache}"
    with pytest.raises(PipelineError, match=expected):
        published_weights(NAME, "IMAGENET1K_V1")
    assert not list(cache.iterdir())


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/net-0badc0de.pth", "http://nowhere.invalid/net.pth"]
)
def test_no_network_is_one_line_that_says_what_to_do(cache, entry, monkeypatch, url):
    monkeypatch.setattr(entry, "_value_", dataclasses.replace(entry.value, url=url))
    with pytest.raises(PipelineError) as caught:
        published_weights(NAME, "IMAGENET1K_V1")
    message = str(caught.value)
    assert message.startswith(f"cannot download {url} (")
    assert f"put the file at {cache / url.rpartition('/')[2]} by hand" in message
    assert "set weights in params.yaml to a .safetensors file, a bundle folder or null" in message


@pytest.mark.parametrize("content", [b"", b"no weights", "half"])
def test_a_damaged_file_is_told(cache, entry, content):
    file_name = entry.url.rpartition("/")[2]
    put(cache, file_name, original())
    path = cache / file_name
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(PipelineError, match=rf"{path} is damaged .*delete it, and it is"):
        published_weights(NAME, "IMAGENET1K_V1")


def test_code_in_a_file_is_not_run(cache, entry, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "evil"), "w"))

    put(cache, entry.url.rpartition("/")[2], {"weight": Evil()})
    with pytest.raises(PipelineError, match="is damaged"):
        published_weights(NAME, "IMAGENET1K_V1")
    assert not (tmp_path / "evil").exists()


def test_something_else_than_tensors(cache, entry):
    put(cache, entry.url.rpartition("/")[2], {"epoch": 3})
    with pytest.raises(PipelineError, match="does not hold tensors by name"):
        published_weights(NAME, "IMAGENET1K_V1")


def test_densenet_is_published_under_the_names_of_2017(cache):
    entry = import_torchvision().models.get_model_weights("densenet121").IMAGENET1K_V1
    tensors = original("densenet121")
    old = {
        name.replace(".norm1.", ".norm.1.")
        .replace(".norm2.", ".norm.2.")
        .replace(".conv1.", ".conv.1.")
        .replace(".conv2.", ".conv.2."): tensor
        for name, tensor in tensors.items()
        if not name.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    put(cache, entry.url.rpartition("/")[2], old)
    network = build_network("densenet121", {}, (3, 32, 32), 1000)
    loaded = load_tensors(network, published_weights("densenet121", "DEFAULT").tensors, "a test")
    assert not loaded.skipped
    assert not loaded.new


def test_an_unknown_name_lists_those_of_the_network():
    expected = (
        r"no IMAGENET1K_V3 for resnet50, did you mean IMAGENET1K_V2\?"
        r" \(valid: IMAGENET1K_V1, IMAGENET1K_V2, DEFAULT\)"
    )
    with pytest.raises(PipelineError, match=expected):
        published_weights("resnet50", "IMAGENET1K_V3")


@pytest.mark.parametrize("network", ["lenet5", "plain", "resnet20"])
def test_networks_without_published_weights_list_those_that_have_some(network):
    with pytest.raises(PipelineError, match=rf"none for {network}; .*alexnet, vgg11_bn.*convnext"):
        published_weights(network, "IMAGENET1K_V1")


@pytest.mark.parametrize("name", REPLACED)
def test_every_family_has_weights_that_state_their_hash(name):
    entry = import_torchvision().models.get_model_weights(name).DEFAULT
    assert torch.hub.HASH_REGEX.search(entry.url.rpartition("/")[2]).group(1)
    preset = entry.transforms()
    assert (tuple(preset.mean), tuple(preset.std)) == (IMAGENET_MEAN, IMAGENET_STD)


def test_means_for_other_channels():
    assert for_channels((0.1, 0.2, 0.6), 3) == (0.1, 0.2, 0.6)
    assert for_channels((0.1, 0.2, 0.6), 1) == pytest.approx((0.3,))
    assert for_channels((0.5,), 2) == (0.5, 0.5)
