"""Pixels of the run before: which are taken, and when none are."""

import os

import numpy as np
import pytest

from pipeline.data import reuse
from pipeline.data.reuse import images_of, keep, open_kept, reuse_key
from pipeline.data.shards import preprocessing, shards
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.data.shards.shards import SetInfo, ShardWriter

INFO = SetInfo(("a", "b"), Preprocessing(2, 3, 1, "stretch", 0, 8), "uint8")


def write(folder, names, info=INFO):
    """Write an image for each name, filled with the number that the name is."""
    with ShardWriter(folder, info, 4) as writer:
        images = np.stack([np.full(info.shape, int(name), info.dtype) for name in names])
        writer.write(images, [0] * len(names), names, [None] * len(names), names)


@pytest.fixture
def kept(tmp_path):
    """Keep two sets of images; return where."""
    write(tmp_path / "out" / "train", ["1", "2", "3", "4", "5", "6"])
    write(tmp_path / "out" / "val", ["7", "8"])
    keep(tmp_path / "state", "key", tmp_path / "out")
    return tmp_path / "state"


def test_what_was_written_is_kept_when_it_is_removed(kept, tmp_path):
    for shard in (tmp_path / "out").rglob("*.arrow"):
        shard.unlink()
    images = open_kept(kept, "key")
    assert images.ids == ["1", "2", "3", "4", "5", "6", "7", "8"]
    assert images.gather(np.arange(8))[:, 0, 0, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_another_key_keeps_nothing(kept):
    assert open_kept(kept, "another") is None


def test_nothing_is_kept_before_the_first_run(tmp_path):
    assert open_kept(tmp_path / "state", "key") is None


@pytest.mark.parametrize("how", ["written", "replaced", "missing", "more", "cut", "note"])
def test_a_file_that_is_another_one_is_not_trusted(kept, tmp_path, how):
    shard = tmp_path / "out" / "val" / "shard-00000.arrow"
    if how == "written":  # in place, such that the kept file changes too
        with shard.open("r+b") as file:
            file.seek(shard.stat().st_size // 2)
            file.write(b"x")
        os.utime(shard, ns=(1, 1))
    elif how == "replaced":
        content = (kept / "val/shard-00000.arrow").read_bytes()
        (kept / "val/shard-00000.arrow").unlink()
        (kept / "val/shard-00000.arrow").write_bytes(content)
    elif how == "missing":
        (kept / "val/shard-00000.arrow").unlink()
    elif how == "more":
        (kept / "val/shard-00001.arrow").hardlink_to(shard)
    elif how == "cut":
        os.truncate(kept / "train/shard-00000.arrow", 100)
    else:
        (kept / "kept.json").write_text("[" * 100_000)
    assert open_kept(kept, "key") is None


def test_where_no_link_can_be_made_the_former_files_stay(kept, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    write(tmp_path / "new", ["9"])
    monkeypatch.setattr(os, "link", refuse)
    keep(kept, "key", tmp_path / "new")
    assert len(open_kept(kept, "key")) == 8
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_only_what_is_not_kept_is_made(kept):
    asked = []

    def make(rows):
        asked.append(rows.tolist())
        for piece in ([90, 91], [92]):  # pieces of other sizes than those that are yielded
            yield np.stack([np.full(INFO.shape, value, np.uint8) for value in piece])

    ids = ["90", "8", "3", "91", "92", "1"]
    pieces = list(images_of(ids, open_kept(kept, "key"), make, 4))
    assert asked == [[0, 3, 4]]
    assert [len(piece) for piece in pieces] == [4, 2]
    assert np.concatenate(pieces)[:, 1, 2, 0].tolist() == [int(name) for name in ids]


def test_the_key_follows_what_pixels_depend_on(tmp_path, monkeypatch):
    def key(info=INFO, modules=(shards,), libraries=("numpy",)):
        return reuse_key(info, modules, libraries)

    wide = SetInfo(INFO.classes, Preprocessing(2, 4, 1, "stretch", 0, 8), "uint8")
    deep = SetInfo(INFO.classes, Preprocessing(2, 3, 1, "stretch", 0, 16), "uint16")
    others = [key(wide), key(deep), key(modules=(preprocessing,)), key(libraries=("pyarrow",))]
    assert len({key(), *others}) == 5
    more_classes = SetInfo((*INFO.classes, "c"), INFO.preprocessing, INFO.dtype)
    assert key(more_classes) == key()
    monkeypatch.setattr(reuse, "version", lambda _: "99.0")
    assert key() != reuse_key(INFO, (shards,), ()) != others[-1]
