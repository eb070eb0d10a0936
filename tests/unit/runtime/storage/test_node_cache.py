import multiprocessing
import os
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.runtime.storage import node_cache
from pipeline.runtime.storage.node_cache import DamagedError, NodeCache
from pipeline.runtime.storage.shared import Storage
from pipeline.runtime.storage.trees import File, Tree


@pytest.fixture
def put(workspace, storage, tree):
    storage.put(tree.files, workspace, "upload")


@pytest.fixture
def fetched(monkeypatch):
    """The names of the files that were fetched."""
    names, get = [], Storage.get
    monkeypatch.setattr(
        Storage, "get", lambda self, file, to: names.append(file.sha256) or get(self, file, to)
    )
    return names


def blob(folder, file):
    return Path(folder, "blobs", file.sha256[:2], file.sha256)


def test_a_file_is_fetched_once(put, storage, cache, first, fetched):
    path = cache.fetch(storage, first)
    assert path == blob(cache.root, first)
    assert path.read_bytes() == b"first"
    assert path.stat().st_mode & 0o777 == 0o444
    assert NodeCache().fetch(storage, first) == path
    assert fetched == [first.sha256]


def test_a_changed_file_of_the_cache_is_read_again(put, storage, cache, first, fetched):
    path = cache.fetch(storage, first)
    # Only touched: read, and found well.
    os.utime(path)
    assert cache.fetch(storage, first).read_bytes() == b"first"
    assert len(fetched) == 1
    # Another content of the same size, or of another one.
    for content in (b"FIRST", b"fi", b""):
        path.chmod(0o644)
        path.write_bytes(content)
        assert cache.fetch(storage, first).read_bytes() == b"first"
    assert len(fetched) == 4


@pytest.mark.parametrize("content", [b"FIRST", b"fir", b"first and more", b""])
def test_a_corrupt_object_is_fetched_again_then_removed(
    put, storage, cache, first, content, fetched
):
    blob(storage.uri, first).write_bytes(content)
    with pytest.raises(
        DamagedError,
        match=r"data/a\.bin \(sha256 [0-9a-f]{16}\.\.\.\) is damaged in the storage .*",
    ):
        cache.fetch(storage, first)
    assert len(fetched) == 3
    assert not blob(storage.uri, first).exists()
    assert not list((cache.root / "blobs").rglob("*.tmp"))
    with pytest.raises(DamagedError, match=r"is not in the storage .*; run again to upload it"):
        cache.fetch(storage, first)
    storage.put([first], Path(), "upload")
    assert cache.fetch(storage, first).read_bytes() == b"first"


def test_one_that_arrives_damaged_once_is_well(put, storage, cache, first, monkeypatch):
    get, times = Storage.get, []

    def cut(self, file, to):
        get(self, file, to)
        if not times:
            Path(to).write_bytes(b"fi")
        times.append(1)

    monkeypatch.setattr(Storage, "get", cut)
    assert cache.fetch(storage, first).read_bytes() == b"first"
    assert len(times) == 2
    assert blob(storage.uri, first).exists()


def _fetch(uri, root, file, barrier, counted):
    get = Storage.get

    def count(self, file, to):
        with counted.get_lock():
            counted.value += 1
        get(self, file, to)

    Storage.get = count
    barrier.wait(60)
    assert NodeCache(root).fetch(Storage(uri), file).read_bytes() == b"first"


def test_two_processes_fetch_a_file_once(put, storage, cache, first):
    fork = multiprocessing.get_context("fork")
    barrier, counted = fork.Barrier(2), fork.Value("i", 0)
    both = [
        fork.Process(target=_fetch, args=(storage.uri, cache.root, first, barrier, counted))
        for _ in range(2)
    ]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert counted.value == 1


def test_what_was_written_here_need_not_be_fetched(workspace, storage, cache, first, fetched):
    cache.add(workspace / first.path, first)
    assert cache.fetch(storage, first).read_bytes() == b"first"
    assert fetched == []
    # A copy: the workspace may change its file.
    (workspace / first.path).write_bytes(b"other")
    assert cache.fetch(storage, first).read_bytes() == b"first"


def test_a_tree_is_linked_into_a_folder(put, storage, cache, tree, tmp_path):
    folder = tmp_path / "there"
    whole = Tree(tree.files, ("reports/pictures",))
    for _ in range(2):  # the second time over what is there
        cache.materialize(storage, whole, folder)
        found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
        assert {name: path.read_bytes() for name, path in found.items()} == {
            "data/a.bin": b"first",
            "data/deep/b.bin": b"second",
            "grüße an.txt": b"first",
        }
    assert (folder / "reports/pictures").is_dir()
    assert found["data/a.bin"].stat().st_ino == found["grüße an.txt"].stat().st_ino


def test_a_name_of_255_bytes(workspace, storage, cache, first, tmp_path):
    storage.put([first], workspace, "upload")
    name = "n" * 255
    cache.materialize(storage, Tree((File(name, first.sha256, 5),)), tmp_path / "there")
    assert (tmp_path / "there" / name).read_bytes() == b"first"


def test_room_is_made_of_what_no_workspace_links_to(
    put, storage, cache, tree, tmp_path, monkeypatch
):
    linked, unlinked = tree.files[1], tree.files[0]
    cache.materialize(storage, Tree((linked,)), tmp_path / "there")
    cache.fetch(storage, unlinked)
    under_way = cache.root / "blobs/ab/abc.tmp"
    under_way.parent.mkdir(exist_ok=True)
    under_way.write_bytes(b"half")
    usage = node_cache.shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(node_cache.shutil, "disk_usage", lambda _: usage)
    (tmp_path / "new").write_bytes(b"new")
    storage.put(
        [new := File("new", "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437", 3)],
        tmp_path,
        "upload",
    )
    assert cache.fetch(storage, new).read_bytes() == b"new"
    assert blob(cache.root, linked).exists()
    assert not blob(cache.root, unlinked).exists()
    assert under_way.exists()


def test_inputs_that_no_process_holds_are_removed_for_room(
    put, storage, cache, first, tmp_path, monkeypatch
):
    held, left = (cache.inputs(digest * 64) for digest in "ab")
    descriptors = [node_cache.hold(folder) for folder in (held, left)]
    for folder in (held, left):
        cache.materialize(storage, Tree((first,)), folder)
    os.close(descriptors[1])  # as the end of its process does
    usage = node_cache.shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(node_cache.shutil, "disk_usage", lambda _: usage)
    cache._make_room(1)
    assert (held / first.path).exists()
    assert not left.exists()
    os.close(descriptors[0])


def test_a_file_that_another_process_removes_for_room_is_fetched_again(
    put, storage, cache, first, tmp_path, monkeypatch
):
    link, taken = node_cache.os.link, []

    def lose(source, target):
        if not taken:
            taken.append(source)
            Path(source).unlink()
        link(source, target)

    monkeypatch.setattr(node_cache.os, "link", lose)
    cache.materialize(storage, Tree((first,)), tmp_path / "there")
    assert (tmp_path / "there/data/a.bin").read_bytes() == b"first"


def test_the_place_is_named_by_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVOY_CACHE", str(tmp_path / "named"))
    assert NodeCache().root == tmp_path / "named"
    monkeypatch.setenv("CONVOY_CACHE", "")
    assert NodeCache().root == Path.home() / ".cache/convoy"


def test_damage_is_a_mistake_that_a_user_sees():
    assert issubclass(DamagedError, PipelineError)
