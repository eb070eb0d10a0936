import gzip
import hashlib
import io
import pickle
import socket
import struct
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import PipelineError
from pipeline.vision import torchvision_data
from pipeline.vision._torchvision import import_torchvision
from pipeline.vision.torchvision_data import DATA_SETS, fetch, source_text


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address under which it is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()
    thread.join()


def _md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def _idx(array: np.ndarray) -> bytes:
    """The format of MNIST's files."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes())


@pytest.fixture
def mnist(served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Serve a small MNIST in place of the real one."""
    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (6, 28, 28), dtype=np.uint8),
        "train-labels-idx1-ubyte": np.array([0, 1, 9, 1, 0, 3], np.uint8),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (2, 28, 28), dtype=np.uint8),
        "t10k-labels-idx1-ubyte": np.array([4, 7], np.uint8),
    }
    folder, address = served
    resources = []
    for name, array in arrays.items():
        content = _idx(array)
        (folder / f"{name}.gz").write_bytes(content)
        resources.append((f"{name}.gz", _md5(content)))
    mnist = import_torchvision().datasets.MNIST
    monkeypatch.setattr(mnist, "mirrors", [address])
    monkeypatch.setattr(mnist, "resources", resources)
    return arrays


def test_mnist_comes_with_its_given_splits(mnist: dict[str, np.ndarray], tmp_path: Path) -> None:
    train, test = fetch("MNIST", tmp_path / "downloads")
    assert (train.split, test.split) == ("train", "test")
    assert train.classes[3] == "3 - three"
    assert train.labels.tolist() == [0, 1, 9, 1, 0, 3]
    assert test.labels.tolist() == [4, 7]
    assert np.array_equal(train.picture(5), mnist["train-images-idx3-ubyte"][5])
    assert np.array_equal(test.picture(1), mnist["t10k-images-idx3-ubyte"][1])


def test_what_was_downloaded_needs_no_network(
    mnist: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch("MNIST", tmp_path / "downloads")
    monkeypatch.setattr(socket, "create_connection", _no_network)
    assert len(fetch("MNIST", tmp_path / "downloads")) == 2


def _no_network(*_: object, **__: object) -> None:
    raise OSError(101, "Network is unreachable")


def test_a_cifar10_archive(
    served: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    rng = np.random.default_rng(1)
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    pixels = {name: rng.integers(0, 256, (4, 3072), dtype=np.uint8) for name in names}
    files = {name: pickle.dumps({"data": pixels[name], "labels": [3, 0, 9, 1]}) for name in names}
    classes = ["airplane", "automobile", "bird", "cat", *"efghij"]
    files["batches.meta"] = pickle.dumps({"label_names": classes})
    with tarfile.open(folder / "cifar.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    cifar = import_torchvision().datasets.CIFAR10
    listed = [[name, _md5(files[name])] for name in names]
    meta = dict(cifar.meta, md5=_md5(files["batches.meta"]))
    for attribute, value in {
        "url": f"{address}cifar.tar.gz",
        "filename": "cifar.tar.gz",
        "tgz_md5": _md5((folder / "cifar.tar.gz").read_bytes()),
        "train_list": listed[:5],
        "test_list": listed[5:],
        "meta": meta,
    }.items():
        monkeypatch.setattr(cifar, attribute, value)
    train, test = fetch("CIFAR10", tmp_path / "downloads")
    assert train.classes == tuple(classes)
    assert train.labels.tolist() == [3, 0, 9, 1] * 5
    picture = test.picture(2)
    assert isinstance(picture, Image.Image)
    expected = pixels["test_batch"][2].reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(picture, expected)


def test_a_damaged_download_is_refused(
    mnist: dict[str, np.ndarray], served: tuple[Path, str], tmp_path: Path
) -> None:
    (served[0] / "t10k-labels-idx1-ubyte.gz").write_bytes(b"not what it was")
    with pytest.raises(PipelineError, match=r"cannot download MNIST: .*corrupted.*; check the net"):
        fetch("MNIST", tmp_path / "downloads")


def test_no_network_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", _no_network)
    message = (
        r"cannot download (MNIST|SVHN): .*unreachable.*; check the network, remove .*/(MNIST|SVHN)"
    )
    for name in ("MNIST", "SVHN"):
        with pytest.raises(PipelineError, match=message) as caught:
            fetch(name, tmp_path / "downloads")
        assert "\n" not in str(caught.value)
    assert socket.getdefaulttimeout() is None


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    message = (
        "sample.source is Cifar10, which is neither digits, parcels nor a torchvision data set for"
        r" classification, did you mean CIFAR10\? \(valid: digits, parcels, CIFAR10,"
        r" CIFAR100, .*USPS\)"
    )
    with pytest.raises(PipelineError, match=message):
        fetch("Cifar10", tmp_path)


def test_every_name_is_torchvisions() -> None:
    for name in DATA_SETS:
        assert hasattr(import_torchvision().datasets, name)


class _Pairs:
    """Stands for a data set of torchvision that shows its labels only item by item."""

    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[str, int]:
        return f"picture {index}", 2 - index


@pytest.mark.parametrize(
    ("data_set", "classes", "labels"),
    [
        (_Pairs(), ("0", "1", "2"), [2, 1, 0]),
        (_Pairs(classes=[("tench", "Tinca"), ("b",), ("c",)]), ("tench", "b", "c"), [2, 1, 0]),
        (_Pairs(y=[0, 0, 1], categories=["x", "y"]), ("x", "y"), [0, 0, 1]),
        (_Pairs(targets=np.array([[4, 7], [0, 1], [1, 1]])), ("0", "1", "2", "3", "4"), [4, 0, 1]),
    ],
)
def test_labels_and_names_under_whatever_name(
    data_set: _Pairs, classes: tuple[str, ...], labels: list[int]
) -> None:
    part = torchvision_data._open_part(data_set, None)
    assert (part.classes, part.labels.tolist()) == (classes, labels)
    assert part.picture(1) == "picture 1"


def test_the_source_is_named_and_the_licence_not_invented() -> None:
    assert "torchvision.datasets.MNIST.html" in source_text("MNIST")
    assert "Licence: that of its authors, which torchvision does not state" in source_text("MNIST")
