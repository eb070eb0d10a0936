import hashlib

import numpy as np
import pytest
from PIL import Image

from pipeline.data.packing.pack import Source, pack, rows_per_shard
from pipeline.data.packing.preprocess import Preprocessing, prepare
from pipeline.data.shards.shards import ImageSet, SetInfo
from pipeline.errors import PipelineError

INFO = SetInfo(("a", "b"), Preprocessing(8, 8, 3, "crop", 0, 8), "uint8")


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "images"
    rng = np.random.default_rng(0)
    for number in range(40):
        path = folder / "ab"[number % 2] / f"{number:02d}.{('jpg', 'png')[number % 3 == 0]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = rng.integers(4, 40, 2)
        Image.fromarray(rng.integers(0, 256, (*size, 3)).astype(np.uint8)).save(path)
    return folder


def sources_in(root):
    return [
        Source(
            path.relative_to(root).as_posix(),
            "ab".index(path.parent.name),
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(root.rglob("*.*"))
    ]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_rows_are_the_files_in_the_order_given(root, tmp_path):
    sources = sources_in(root)
    pack(sources, root, INFO, tmp_path / "train", workers=1)
    packed = ImageSet.open(tmp_path / "train")
    assert packed.paths == [source.path for source in sources]
    assert packed.ids == [source.sha256 for source in sources]
    assert packed.labels.tolist() == [source.label for source in sources]
    assert packed.parents == [None] * 40
    for row in (0, 17, 39):
        content = (root / sources[row].path).read_bytes()
        expected = prepare(content, INFO.preprocessing)
        assert (packed.gather(np.array([row]))[0] == expected).all()


def test_one_and_three_threads_write_the_same_bytes(root, tmp_path, monkeypatch):
    monkeypatch.setattr(SetInfo, "rows_per_batch", 7)
    for workers in (1, 3):
        pack(sources_in(root), root, INFO, tmp_path / str(workers), workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_no_images_make_an_empty_set(root, tmp_path):
    pack([], root, INFO, tmp_path / "val")
    assert len(ImageSet.open(tmp_path / "val")) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_changed_content_is_refused(root, tmp_path, workers, monkeypatch):
    monkeypatch.setattr(SetInfo, "rows_per_batch", 1)
    sources = sources_in(root)
    Image.new("RGB", (9, 9)).save(root / "b" / "07.jpg")
    with pytest.raises(
        PipelineError, match=r"images/b/07\.jpg changed since it was indexed; run dvc repro$"
    ):
        pack(sources, root, INFO, tmp_path / "train", workers=workers)


def test_a_file_that_is_gone_is_named(root, tmp_path):
    sources = sources_in(root)
    (root / "b" / "07.jpg").unlink()
    with pytest.raises(PipelineError, match=r"b/07\.jpg was indexed but cannot be read now \(No s"):
        pack(sources, root, INFO, tmp_path / "train", workers=1)


def test_a_file_that_cannot_be_decoded_is_named(root, tmp_path):
    (root / "a" / "00.png").write_text("no image")
    with pytest.raises(PipelineError, match=r"a/00\.png: not an image: .*; mend or remove it"):
        pack(sources_in(root), root, INFO, tmp_path / "train", workers=1)


def test_shards_are_few_and_large():
    assert rows_per_shard(INFO) * 192 == pytest.approx(128 * 2**20, rel=1e-3)
    large = SetInfo(("a",), Preprocessing(20_000, 20_000, 3, "pad", 0, 16), "uint16")
    assert rows_per_shard(large) == 1
