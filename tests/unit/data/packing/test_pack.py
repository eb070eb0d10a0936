import hashlib

import numpy as np
import pytest
from PIL import Image

from pipeline.data.packing.pack import PackRow, pack
from pipeline.data.packing.preprocess import preprocess
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.data.shards.shards import ImageSet, SetInfo
from pipeline.data.sources.folder import FolderSource
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


def rows_in(root):
    return [
        PackRow(
            path.relative_to(root).as_posix(),
            "ab".index(path.parent.name),
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(root.rglob("*.*"))
    ]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_rows_are_the_files_in_the_order_given(root, tmp_path):
    rows = rows_in(root)
    pack(rows, FolderSource(root), INFO, tmp_path / "train", workers=1)
    packed = ImageSet.open(tmp_path / "train")
    assert packed.paths == [row.path for row in rows]
    assert packed.ids == [row.sha256 for row in rows]
    assert packed.labels.tolist() == [row.label for row in rows]
    assert packed.parents == [None] * 40
    for row in (0, 17, 39):
        content = (root / rows[row].path).read_bytes()
        expected = preprocess(content, INFO.preprocessing)
        assert (packed.gather(np.array([row]))[0] == expected).all()


def test_one_and_three_threads_write_the_same_bytes(root, tmp_path, monkeypatch):
    monkeypatch.setattr(SetInfo, "rows_per_batch", 7)
    for workers in (1, 3):
        pack(rows_in(root), FolderSource(root), INFO, tmp_path / str(workers), workers=workers)
    assert contents(tmp_path / "1") == contents(tmp_path / "3")


def test_no_images_make_an_empty_set(root, tmp_path):
    pack([], FolderSource(root), INFO, tmp_path / "val")
    assert len(ImageSet.open(tmp_path / "val")) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_changed_content_is_refused(root, tmp_path, workers, monkeypatch):
    monkeypatch.setattr(SetInfo, "rows_per_batch", 1)
    rows = rows_in(root)
    Image.new("RGB", (9, 9)).save(root / "b" / "07.jpg")
    with pytest.raises(
        PipelineError, match=r"images/b/07\.jpg changed since it was indexed; run dvc repro$"
    ):
        pack(rows, FolderSource(root), INFO, tmp_path / "train", workers=workers)


def test_a_file_that_is_gone_is_named(root, tmp_path):
    rows = rows_in(root)
    (root / "b" / "07.jpg").unlink()
    with pytest.raises(PipelineError, match=r"b/07\.jpg was indexed but cannot be read now \(No s"):
        pack(rows, FolderSource(root), INFO, tmp_path / "train", workers=1)


def test_a_file_that_cannot_be_decoded_is_named(root, tmp_path):
    (root / "a" / "00.png").write_text("no image")
    with pytest.raises(PipelineError, match=r"a/00\.png: not an image: .*; mend or remove it"):
        pack(rows_in(root), FolderSource(root), INFO, tmp_path / "train", workers=1)
