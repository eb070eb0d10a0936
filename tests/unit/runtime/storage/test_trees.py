import hashlib
import json
import os
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.runtime.storage import trees
from pipeline.runtime.storage.trees import DigestCache, File, Tree, snapshot


def taken(folder, *paths):
    return snapshot(folder, paths, DigestCache(folder, folder / ".convoy/digests.json"))


def sha(content):
    return hashlib.sha256(content).hexdigest()


def test_a_tree_is_the_sorted_list_of_paths_digests_and_sizes(workspace, tree):
    rows = [
        ["data/a.bin", sha(b"first"), 5],
        ["data/deep/b.bin", sha(b"second"), 6],
        ["grüße an.txt", sha(b"first"), 5],
    ]
    assert tree.digest == sha(json.dumps(rows, separators=(",", ":")).encode())
    assert tree.size == 16
    assert Tree.from_json(tree.to_json(), "it") == tree
    # The order in which paths are named is of no weight, nor is a path named twice.
    assert taken(workspace, "grüße an.txt", "data/deep", "./data/", "data", "none") == tree
    Path("data/a.bin").write_bytes(b"First")
    assert taken(workspace, "data", "grüße an.txt").digest != tree.digest


def test_a_name_that_is_no_utf8_travels(workspace):
    Path(os.fsdecode(b"data/\xff.bin")).write_bytes(b"x")
    tree = taken(workspace, "data")
    assert os.fsdecode(b"data/\xff.bin") in {file.path for file in tree.files}
    assert Tree.from_json(tree.to_json(), "it") == tree


def test_an_empty_folder_that_was_named_is_part_of_it(workspace, tree):
    Path("data/empty").mkdir()
    assert taken(workspace, "data", "grüße an.txt") == tree  # as of DVC: none within a folder
    found = taken(workspace, "data/empty/", "none")
    assert found == Tree((), ("data/empty",))
    assert Tree.from_json(found.to_json(), "it") == found
    assert found.digest != Tree(()).digest


def test_links_are_followed_and_what_is_being_written_is_left_out(workspace):
    Path("linked").symlink_to("data")
    Path("data/c.bin").symlink_to("a.bin")
    Path("data/.d.bin.12345678.tmp").write_bytes(b"half")
    assert [(file.path, file.sha256) for file in taken(workspace, "linked").files] == [
        ("linked/a.bin", sha(b"first")),
        ("linked/c.bin", sha(b"first")),
        ("linked/deep/b.bin", sha(b"second")),
    ]


@pytest.mark.parametrize("target", ["..", "../..", "nowhere", "/dev/null"])
def test_a_link_without_an_end_and_what_is_no_file_are_refused(workspace, target):
    Path("data/deep/link").symlink_to(target)
    with pytest.raises(PipelineError, match=r"data/deep/link (is a link to|cannot be|is no file)"):
        taken(workspace, "data")


def test_folders_that_link_to_each_other_are_refused(workspace):
    for here, there in (("x", "y"), ("y", "x")):
        Path("data", here).mkdir()
        Path("data", here, "b.bin").write_bytes(b"second")
        for number in range(3):  # each adds a way, so that all of them would be 3 to the 40
            Path("data", here, f"link{number}").symlink_to(f"../{there}")
    with pytest.raises(PipelineError, match=r"data/x/link\d/link\d is a link to a folder"):
        taken(workspace, "data/x")


@pytest.mark.parametrize(
    "rows",
    [
        [["../a", "0" * 64, 1]],
        [["/etc/passwd", "0" * 64, 1]],
        [["data/../../a", "0" * 64, 1]],
        [["", "0" * 64, 1]],
        [["../folder"]],
    ],
)
def test_a_path_that_leads_out_of_the_workspace_is_refused(rows):
    with pytest.raises(PipelineError, match=r"trees/x\.json names '.*', which leads out of"):
        Tree.from_json(json.dumps(rows).encode(), "trees/x.json")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[1]",
        b'[["a", 3]]',
        b"[[{}, {}, {}]]",
        b'[["a", "%s", 1]]' % (b"../" * 21 + b"x"),
        b"\xff",
        b'[["a", "',
    ],
)
def test_a_damaged_tree_is_one_line(content):
    with pytest.raises(PipelineError, match=r"trees/x\.json (is damaged|names)"):
        Tree.from_json(content, "trees/x.json")


def test_digests_are_remembered_until_a_file_changes(workspace, monkeypatch):
    read = []
    monkeypatch.setattr(
        trees, "hash_file", lambda path: read.append(path.name) or sha(path.read_bytes())
    )
    before = taken(workspace, "data")
    assert read == ["a.bin", "b.bin"]
    assert taken(workspace, "data") == before
    assert len(read) == 2
    # The same size and, by a tool that keeps it, the same time: another inode.
    status = Path("data/a.bin").stat()
    Path("new").write_bytes(b"tsrif")
    os.utime("new", ns=(status.st_atime_ns, status.st_mtime_ns))
    Path("new").replace("data/a.bin")
    assert taken(workspace, "data").files[0] == File("data/a.bin", sha(b"tsrif"), 5)
    # In place, at another time.
    Path("data/a.bin").write_bytes(b"again")
    os.utime("data/a.bin", ns=(1, status.st_mtime_ns + 1))
    assert taken(workspace, "data").files[0] == File("data/a.bin", sha(b"again"), 5)
    assert read == ["a.bin", "b.bin", "a.bin", "a.bin"]


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b'{"data/a.bin": 3}', b"\xff"])
def test_damaged_memory_of_digests_is_forgotten(workspace, tree, content):
    file = workspace / ".convoy/digests.json"
    file.parent.mkdir()
    file.write_bytes(content)
    assert taken(workspace, "data", "grüße an.txt") == tree
