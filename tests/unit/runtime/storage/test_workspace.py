import json
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.runtime.storage.node_cache import DamagedError
from pipeline.runtime.storage.workspace import Inputs, load_tree, publish, save_tree


def test_what_is_published_here_is_entered_there(workspace, storage, cache, tree):
    Path("data/none").mkdir()
    inputs = publish(storage, ["data", "grüße an.txt", "data/none"])
    assert publish(storage, ["data/none", "grüße an.txt", "data"]) == inputs
    assert load_tree(storage, inputs.digest).files == tree.files
    inputs.enter()
    assert Path.cwd() == cache.root / "work" / f"inputs-{inputs.digest}"
    assert Path("data/deep/b.bin").read_bytes() == b"second"
    assert Path("grüße an.txt").read_bytes() == b"first"
    assert list(Path("data/none").iterdir()) == []


def test_it_is_made_once(workspace, storage, cache):
    inputs = publish(storage, ["data"])
    folder = inputs.fetch()
    storage.remove("")
    assert inputs.fetch() == folder


def test_one_that_was_left_half_made_is_made_whole(workspace, storage, cache, tree):
    inputs = publish(storage, ["data"])
    path = Path(storage.uri, "blobs", tree.files[1].sha256[:2], tree.files[1].sha256)
    path.write_bytes(b"SECOND")
    with pytest.raises(DamagedError, match=r"data/deep/b\.bin"):
        inputs.fetch()
    assert publish(storage, ["data"]) == inputs  # uploads what the storage has lost
    assert (inputs.fetch() / "data/deep/b.bin").read_bytes() == b"second"


@pytest.mark.parametrize("content", [None, b"", b"[]", b'[["../a", "x", 1]]'])
def test_a_tree_that_is_missing_or_damaged_is_one_line(storage, tree, content):
    save_tree(storage, tree)
    name = Path(storage.uri, f"trees/{tree.digest}.json")
    assert json.loads(name.read_bytes())[0][0] == "data/a.bin"
    name.unlink() if content is None else name.write_bytes(content)
    with pytest.raises(PipelineError, match=rf"trees/{tree.digest}\.json in {storage.uri} "):
        load_tree(storage, tree.digest)
    # The next sender stores it again.
    save_tree(storage, tree)
    assert load_tree(storage, tree.digest) == tree


def test_inputs_of_a_storage_that_lacks_them(storage, cache):
    with pytest.raises(PipelineError, match="is missing or damaged; run again"):
        Inputs(storage.uri, "0" * 64).fetch()
