import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.sources.scan import scan
from pipeline.errors import PipelineError


def _touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x" * 7)


def _columns(root: Path, *names: str) -> list[tuple[object, ...]]:
    files = scan(root).files
    return list(zip(*(files[name].to_pylist() for name in names), strict=True))


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    _touch(tmp_path, "dog/b.png", "cat/2.png", "cat/deep/er/1.png", "cat/.hidden", ".git/x")
    _touch(tmp_path, "SOURCE.md", "notes.txt", "loose.png")
    found = scan(tmp_path)
    assert found.folder == tmp_path
    assert found.ignored == ("loose.png",)
    assert _columns(tmp_path, "path", "label", "split", "group", "bytes", "obstacle") == [
        ("cat/2.png", "cat", None, None, 7, None),
        ("cat/deep/er/1.png", "cat", None, None, 7, None),
        ("dog/b.png", "dog", None, None, 7, None),
    ]
    assert _columns(tmp_path, "mtime_ns")[0] == ((tmp_path / "cat/2.png").stat().st_mtime_ns,)


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_given_splits_are_folders_of_class_folders(tmp_path: Path, val: str) -> None:
    _touch(tmp_path, "train/a/1.png", f"{val}/b/2.png", "test/a/3.png", "test/loose.png")
    assert sorted(_columns(tmp_path, "label", "split")) == [
        ("a", "test"),
        ("a", "train"),
        ("b", "val"),
    ]
    assert scan(tmp_path).ignored == ("test/loose.png",)


def test_a_class_called_like_a_split_is_ambiguous(tmp_path: Path) -> None:
    _touch(tmp_path, "test/1.png", "cat/1.png")
    with pytest.raises(PipelineError, match=r"mixes folders of given splits \(test\) with others"):
        scan(tmp_path)


def test_images_directly_in_folders_called_like_splits(tmp_path: Path) -> None:
    _touch(tmp_path, "train/1.png", "test/1.png")
    message = r"found no class folders in test, train, whose names mean given splits; make one"
    with pytest.raises(PipelineError, match=message):
        scan(tmp_path)


def test_a_csv_with_columns_without_a_name_is_read(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label,,\na.png,x,,\n")
    assert _columns(tmp_path / "list.csv", "path", "label") == [("a.png", "x")]


def test_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"no such folder or manifest in .*; set data.root"):
        scan(tmp_path / "absent")
    with pytest.raises(PipelineError, match="has no class folders; expected one folder per class"):
        scan(tmp_path)
    _touch(tmp_path, "1.png")
    with pytest.raises(PipelineError, match=r"has no class folders, but files: 1\.png; expected"):
        scan(tmp_path)


def test_an_empty_class_folder_is_named(tmp_path: Path) -> None:
    _touch(tmp_path, "cat/1.png", "dog/.keep")
    with pytest.raises(PipelineError, match=r"no files in the class folders dog; add images"):
        scan(tmp_path)


def test_links_may_not_leave_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "root"
    _touch(tmp_path, "secret.png", "elsewhere/1.png")
    _touch(root, "cat/1.png", "dog/1.png")
    (root / "cat/in.png").symlink_to(root / "dog/1.png")
    (root / "cat/out.png").symlink_to("../../secret.png")
    (root / "cat/gone.png").symlink_to("nowhere.png")
    (root / "dog/folder").symlink_to(root / "cat")
    (root / "fox").symlink_to(tmp_path / "elsewhere")
    outside = "symbolic link to outside the data folder; put the file itself there"
    assert _columns(root, "path", "obstacle") == [
        ("cat/1.png", None),
        ("cat/gone.png", "unreadable: No such file or directory"),
        ("cat/in.png", None),
        ("cat/out.png", outside),
        ("dog/1.png", None),
        (
            "dog/folder",
            "symbolic link to a folder, which is not followed; put the folder itself there",
        ),
        ("fox", outside),
    ]


def test_a_link_to_the_whole_data_folder_is_fine(tmp_path: Path) -> None:
    _touch(tmp_path / "real", "cat/1.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert _columns(tmp_path / "link", "path", "obstacle") == [("cat/1.png", None)]


def test_what_would_hang_is_not_opened(tmp_path: Path) -> None:
    _touch(tmp_path, "cat/1.png")
    os.mkfifo(tmp_path / "cat/pipe.png")
    assert _columns(tmp_path, "path", "obstacle")[1] == ("cat/pipe.png", "not a regular file")


def test_a_name_that_is_no_text_is_spelt_out(tmp_path: Path) -> None:
    _touch(tmp_path, "cat/1.png")
    (tmp_path / "cat" / os.fsdecode(b"\xff.png")).touch()
    assert _columns(tmp_path, "path", "obstacle")[1] == (
        "cat/\\xff.png",
        "file name is not UTF-8; rename it",
    )


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path, "cat/1.png")

    def refuse(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PipelineError, match=r"cannot list .*: Permission denied; allow reading it"):
        scan(tmp_path)


CSV = "path,label,split,group,extra\nimg/a.png,007,train,g1,x\n./img/b.png,8,,,\nc.png,8,valid,,\n"


def test_a_csv_manifest_keeps_labels_as_text(tmp_path: Path) -> None:
    _touch(tmp_path, "img/a.png", "img/b.png")
    (tmp_path / "list.csv").write_text(CSV)
    found = scan(tmp_path / "list.csv")
    assert found.folder == tmp_path
    assert _columns(tmp_path / "list.csv", "path", "label", "split", "group", "obstacle") == [
        ("c.png", "8", "val", None, "unreadable: No such file or directory"),
        ("img/a.png", "007", "train", "g1", None),
        ("img/b.png", "8", None, None, None),
    ]


def test_a_parquet_manifest_may_hold_numbers(tmp_path: Path) -> None:
    _touch(tmp_path, "a.png")
    pq.write_table(pa.table({"path": ["a.png"], "label": [3]}), tmp_path / "list.parquet")
    assert _columns(tmp_path / "list.parquet", "path", "label") == [("a.png", "3")]


@pytest.mark.parametrize("path", ["/etc/passwd", "../a.png", "a/../../b.png", "C:/a.png"])
def test_a_manifest_stays_in_its_folder(tmp_path: Path, path: str) -> None:
    (tmp_path / "list.csv").write_text(f"path,label\n{path},a\n")
    with pytest.raises(PipelineError, match=r"row 1: the path .* leaves the manifest's folder"):
        scan(tmp_path / "list.csv")


def test_a_manifest_leads_not_outside_by_links(tmp_path: Path) -> None:
    _touch(tmp_path, "outside/a.png", "b.png", "in/list.csv")
    (tmp_path / "in/door").symlink_to(tmp_path / "outside")
    (tmp_path / "in/b.png").symlink_to(tmp_path / "b.png")
    (tmp_path / "in/list.csv").write_text("path,label\ndoor/a.png,a\nb.png,b\ndoor,b\n")
    outside = "symbolic link to outside the data folder; put the file itself there"
    assert _columns(tmp_path / "in/list.csv", "obstacle") == [(outside,), (outside,), (outside,)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", "file,label\na,b\n", r"no column path, found file, label; expected path,label"),
        ("m.csv", "path,label,label\na,b,c\n", "line 1: the column label is given twice; keep one"),
        (
            "m.csv",
            "path,label\na.png,x\nb\0.png,x\n",
            r"row 2: the path 'b\\x00\.png' holds a zero",
        ),
        ("m.csv", "path,label\n", "has no rows; list one image per row"),
        ("m.csv", "path,label\na.png,\n", "row 1: no label; fill it in"),
        ("m.csv", "path,label\n ,x\n", "row 1: no path; fill it in"),
        ("m.csv", "path,label\na.png,x\n./a.png,y\n", r"lists a\.png more than once"),
        ("m.csv", "path,label,split\na.png,x,dev\n", "row 1: split is dev, expected train, val"),
        ("m.csv", "path,label\na,b,c\n", "cannot read the manifest"),
        ("m.csv", "", "cannot read the manifest"),
        ("m.parquet", "nonsense", "cannot read the manifest"),
        ("m.xlsx", "nonsense", r"expected a folder or a \.csv or \.parquet manifest"),
    ],
)
def test_mistakes_in_a_manifest(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(PipelineError, match=message):
        scan(tmp_path / name)


def test_a_manifest_column_that_is_no_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["a"], "label": [[1]]}), tmp_path / "m.parquet")
    with pytest.raises(PipelineError, match=r"manifest column label holds list<.*>, expected text"):
        scan(tmp_path / "m.parquet")
