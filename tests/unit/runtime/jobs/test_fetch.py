from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.runtime.jobs.fetch import fetch
from pipeline.runtime.storage.trees import Tree

OUTS = ("data/packed", "reports/a.json")


def test_outs_are_written_whole_over_those_before(params, storage, written):
    Path("data/packed").mkdir()
    Path("data/packed/old").write_text("old")
    Path("reports").mkdir()
    Path("reports/a.json").write_text("old")
    Path("reports/b.json").write_text("kept")
    files = {
        "data/packed/train/shard 1.arrow": b"1",
        "data/packed/ü.json": b"2",
        "reports/a.json": b"3",
        "reports/elsewhere.json": b"of no out",
    }
    fetch(storage, written(files), OUTS)
    assert {
        p.as_posix(): p.read_bytes() for p in Path("data/packed").rglob("*") if p.is_file()
    } == {name: content for name, content in files.items() if name.startswith("data/")}
    assert Path("reports/a.json").read_bytes() == b"3"
    assert sorted(p.name for p in Path("reports").iterdir()) == ["a.json", "b.json"]
    assert Path("reports/a.json").stat().st_mode & 0o200


def test_a_folder_becomes_a_file_and_a_file_a_folder(params, storage, written):
    Path("data/packed").write_text("file")
    Path("reports/a.json/deep").mkdir(parents=True)
    Path("reports/a.json/deep/x").write_text("x")
    fetch(storage, written({"data/packed/x": b"1", "reports/a.json": b"3"}), OUTS)
    assert Path("data/packed/x").read_bytes() == b"1"
    assert Path("reports/a.json").read_bytes() == b"3"


def test_an_empty_folder_is_one_here_too(params, storage, written):
    Path("data/packed").mkdir()
    Path("data/packed/old").write_text("old")
    tree = written({"reports/a.json": b"3"})
    fetch(storage, Tree(tree.files, ("data/packed",)), OUTS)
    assert list(Path("data/packed").iterdir()) == []


@pytest.mark.parametrize("damage", ["missing", "cut", "other"])
@pytest.mark.parametrize("out", ["data/packed", "reports/a.json"])
def test_of_a_damaged_out_nothing_is_written(params, storage, written, damage, out):
    before = {"data/packed/1": "old", "reports/a.json": "old"}
    for path, text in before.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)
    tree = written({"data/packed/1": b"one", "data/packed/2": b"two", "reports/a.json": b"three"})
    file = next(f for f in tree.files if f.path in ("data/packed/2", out))
    blob = Path(storage.uri, "blobs", file.sha256[:2], file.sha256)
    blob.unlink() if damage == "missing" else blob.write_bytes(
        {"cut": b"", "other": b"twO"}[damage]
    )
    with pytest.raises(
        PipelineError, match=rf"{file.path} is missing or damaged in the storage .* makes it again"
    ):
        fetch(storage, tree, OUTS)
    assert not blob.exists()  # so that it is uploaded again
    found = {p.as_posix(): p.read_text() for p in Path(out).parent.rglob("*") if p.is_file()}
    found.pop("data/index.parquet", None)
    assert found == {path: text for path, text in before.items() if path.startswith(out)}


def test_records_that_wait_come_beside_those_that_are_here(params, storage, written):
    journal = Path(".convoy/journal")
    journal.mkdir(parents=True)
    (journal / "here.jsonl").write_text("here")
    fetch(storage, written({".convoy/journal/there.jsonl": b"there"}), OUTS)
    assert {p.name: p.read_text() for p in journal.iterdir()} == {
        "here.jsonl": "here",
        "there.jsonl": "there",
    }
