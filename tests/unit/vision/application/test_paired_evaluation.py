import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipeline.data.packing.preprocess import preprocess_file
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.data.shards.shards import ImageSet, SetInfo, ShardWriter
from pipeline.data.sources.folder import FolderSource
from pipeline.data.sources.open import open_source
from pipeline.errors import PipelineError
from pipeline.vision.application.paired_evaluation import evaluate_pair, spread, time_in_turns
from pipeline.vision.bundle.description import Description, Views, rewrite_bundle
from pipeline.vision.inference.bundle import load_bundle
from pipeline.vision.inference.predict import probabilities
from tests.bundles import save_bundle
from tests.hub import write_hub_file
from tests.packed import BARS, bars

BLOCK = {"filters": 2, "kernel": 3, "pool": {"kind": "max", "size": 2}}


def bundle(name, classes=BARS, size=16, filters=2):
    torch.manual_seed(len(name))
    preprocessing = Preprocessing(size, size, 1, "stretch", 0, 8)
    args = {"blocks": [BLOCK | {"filters": filters}], "dense": []}
    description = Description("plain", args, classes, preprocessing, (0.3,), (0.3,))
    save_bundle(Path(name), description, description.build().state_dict())
    return load_bundle(Path(name))


@pytest.fixture
def images():
    """Six images as PNG files below 'in', and packed."""
    pixels, labels = bars(6)
    info = SetInfo(BARS, Preprocessing(16, 16, 1, "stretch", 0, 8), "uint8")
    ids, paths = [], [f"{row}.png" for row in range(6)]
    Path("in").mkdir()
    for path, image in zip(paths, pixels, strict=True):
        cv2.imwrite(f"in/{path}", image)
        ids.append(hashlib.sha256(Path("in", path).read_bytes()).hexdigest())
    with ShardWriter(Path("packed"), info, 1024) as writer:
        writer.write(pixels, labels, ids, [None] * 6, paths)
    return ImageSet.open(Path("packed"))


def test_both_answer_the_packed_images(images):
    first, second = bundle("first"), bundle("second")
    pair = evaluate_pair(first, second, images, FolderSource(Path("nowhere")))
    assert pair.classes == BARS
    assert pair.labels.tolist() == images.labels.tolist()
    for found, model in ((pair.first, first), (pair.second, second)):
        assert found == pytest.approx(probabilities(model, [images.gather(np.arange(6))]))


def test_each_is_asked_and_timed_as_it_is_shipped(images):
    plain = bundle("plain")
    views = Views(tuple({"rotate": {"degrees": turn}} for turn in range(30)), "arithmetic", 0)
    rewrite_bundle(Path("plain"), Path("shipped"), views, 2.0)
    shipped = load_bundle(Path("shipped"))
    pair = evaluate_pair(plain, shipped, images, FolderSource(Path("nowhere")))
    pixels = images.gather(np.arange(6))
    assert pair.second == pytest.approx(probabilities(shipped, [pixels]))
    assert np.abs(pair.second - pair.first).max() > 1e-3
    assert pair.seconds[1] > 3 * pair.seconds[0]


def test_another_preparing_reads_the_files(images):
    first, second = bundle("first"), bundle("second", size=20)
    pair = evaluate_pair(first, second, images, FolderSource(Path("in")))
    anew = np.stack(
        [preprocess_file(Path("in", path), second.preprocessing) for path in images.paths]
    )
    assert pair.second == pytest.approx(probabilities(second, [anew]))


def test_another_preparing_reads_the_rows_of_a_parquet_file(images):
    first, second = bundle("first"), bundle("second", size=20)
    expected = evaluate_pair(first, second, images, FolderSource(Path("in")))
    contents = [Path("in", path).read_bytes() for path in images.paths]
    write_hub_file(Path("hub/test.parquet"), contents, images.labels.tolist(), BARS)
    info, pixels = images.info, images.gather(np.arange(6))
    with ShardWriter(Path("from_hub"), info, 1024) as writer:
        paths = [f"test.parquet/{row:07d}" for row in range(6)]
        writer.write(pixels, images.labels.tolist(), images.ids, [None] * 6, paths)
    found = evaluate_pair(first, second, ImageSet.open(Path("from_hub")), open_source("hub"))
    assert (found.second == expected.second).all()


def test_a_file_that_changed_is_not_judged(images):
    Path("in/3.png").write_bytes(Path("in/2.png").read_bytes())
    with pytest.raises(PipelineError, match=r"in/3\.png changed since it was indexed"):
        evaluate_pair(bundle("first"), bundle("second", size=20), images, FolderSource(Path("in")))


def test_classes_that_one_model_does_not_know(images):
    first, second = bundle("first"), bundle("second", classes=("none", "bent", "lying"))
    pair = evaluate_pair(first, second, images, FolderSource(Path("in")))
    assert pair.classes == (*BARS, "bent")
    own = probabilities(second, [images.gather(np.arange(6))])
    assert pair.second == pytest.approx(np.stack([0 * own[:, 0], *own.T[[2, 0, 1]]], axis=1))
    assert (pair.first[:, 3] == 0).all()


def test_columns_are_placed_by_name():
    assert spread(np.array([[0.1, 0.9]]), ("b", "a"), ("a", "c", "b")).tolist() == [[0.9, 0, 0.1]]


def test_the_slower_model_is_found_out(images):
    pixels = images.gather(np.arange(6))
    quick, slow = time_in_turns((bundle("q"), pixels), (bundle("slow", filters=512), pixels))
    assert slow > 1.5 * quick
