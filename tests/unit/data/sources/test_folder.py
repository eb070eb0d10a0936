import os
from pathlib import Path

import pytest

from pipeline.data.images.decode import UnusableImageError
from pipeline.data.sources.folder import FolderSource
from pipeline.data.sources.source import Listing
from pipeline.errors import PipelineError
from tests.unit.data.sources.listings import columns_of, touch


def _scan(root: Path) -> Listing:
    return FolderSource(root).list_images()


def _columns(root: Path, *names: str) -> list[tuple[object, ...]]:
    return columns_of(FolderSource(root), *names)


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, "dog/b.png", "cat/2.png", "cat/deep/er/1.png", "cat/.hidden", ".git/x")
    touch(tmp_path, "SOURCE.md", "notes.txt", "loose.png")
    found = _scan(tmp_path)
    assert found.ignored == ("loose.png",)
    assert _columns(tmp_path, "path", "label", "split", "group", "obstacle") == [
        ("cat/2.png", "cat", None, None, None),
        ("cat/deep/er/1.png", "cat", None, None, None),
        ("dog/b.png", "dog", None, None, None),
    ]
    assert FolderSource(tmp_path).read("cat/2.png") == b"x" * 7


def test_what_systems_and_people_leave_beside_images_is_no_class_and_no_image(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "cat/1.png", "dog/1.PNG", "cat/Thumbs.db", "cat/.DS_Store", "dog/desktop.ini")
    touch(tmp_path, "__MACOSX/cat/._1.png", "__MACOSX/cat/1.png", "cat/@eaDir/1.png")
    touch(tmp_path, "cat/labels.csv", "cat/deep/README", "dog/notes.JSON", "labels/all.txt")
    touch(tmp_path, "annotations/1.xml", "annotations/deep/2.xml", "labels.csv", "README.md")
    assert _columns(tmp_path, "path", "label") == [("cat/1.png", "cat"), ("dog/1.PNG", "dog")]
    assert _scan(tmp_path).ignored == (
        *("labels.csv", "annotations/1.xml", "annotations/deep/2.xml", "labels/all.txt"),
        *("cat/deep/README", "cat/labels.csv", "dog/notes.JSON"),
    )


def test_notes_beside_given_splits_are_no_classes(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.png", "train/b/1.png", "train/labels/a.txt", "test/a/2.png")
    touch(tmp_path, "labels/train.json", "__MACOSX/train/a/1.png")
    assert [row[0] for row in _columns(tmp_path, "path")] == [
        *("test/a/2.png", "train/a/1.png", "train/b/1.png"),
    ]
    assert _scan(tmp_path).ignored == ("labels/train.json", "train/labels/a.txt")


def test_the_version_changes_with_size_and_time(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png")
    versions = [_columns(tmp_path, "version")]
    status = (tmp_path / "cat/1.png").stat()
    (tmp_path / "cat/1.png").write_bytes(b"x" * 8)
    os.utime(tmp_path / "cat/1.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    versions.append(_columns(tmp_path, "version"))
    os.utime(tmp_path / "cat/1.png", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    versions.append(_columns(tmp_path, "version"))
    assert versions[0] != versions[1] != versions[2] != versions[0]
    assert _columns(tmp_path, "version") == versions[2]


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_given_splits_are_folders_of_class_folders(tmp_path: Path, val: str) -> None:
    touch(tmp_path, "train/a/1.png", f"{val}/b/2.png", "test/a/3.png", "test/loose.png")
    assert sorted(_columns(tmp_path, "label", "split")) == [
        ("a", "test"),
        ("a", "train"),
        ("b", "val"),
    ]
    assert _scan(tmp_path).ignored == ("test/loose.png",)


def test_a_class_called_like_a_split_is_ambiguous(tmp_path: Path) -> None:
    touch(tmp_path, "test/1.png", "cat/1.png")
    with pytest.raises(PipelineError, match=r"mixes folders of given splits \(test\) with others"):
        _scan(tmp_path)


def test_images_directly_in_folders_called_like_splits(tmp_path: Path) -> None:
    touch(tmp_path, "train/1.png", "test/1.png")
    message = r"found no class folders in test, train, whose names mean given splits; make one"
    with pytest.raises(PipelineError, match=message):
        _scan(tmp_path)


def test_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match=r"no such folder or manifest in .*; set data.root"):
        _scan(tmp_path / "absent")
    with pytest.raises(PipelineError, match="has no class folders; expected one folder per class"):
        _scan(tmp_path)
    touch(tmp_path, "1.png")
    with pytest.raises(PipelineError, match=r"has no class folders, but files: 1\.png; expected"):
        _scan(tmp_path)


def test_an_empty_class_folder_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png", "dog/.keep")
    with pytest.raises(PipelineError, match=r"no files in the class folders dog; add images"):
        _scan(tmp_path)


def test_links_are_followed_to_anywhere(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(tmp_path, "outside.png", "elsewhere/1.png", "elsewhere/deep/2.png")
    touch(root, "cat/1.png", "dog/1.png")
    (root / "cat/in.png").symlink_to(root / "dog/1.png")
    (root / "cat/out.png").symlink_to("../../outside.png")
    (root / "dog/folder").symlink_to(tmp_path / "elsewhere")
    (root / "dog/same").symlink_to("../cat")  # reached twice, but in no circle
    (root / "fox").symlink_to(tmp_path / "elsewhere")
    assert _columns(root, "path", "label", "obstacle") == [
        ("cat/1.png", "cat", None),
        ("cat/in.png", "cat", None),
        ("cat/out.png", "cat", None),
        ("dog/1.png", "dog", None),
        ("dog/folder/1.png", "dog", None),
        ("dog/folder/deep/2.png", "dog", None),
        ("dog/same/1.png", "dog", None),
        ("dog/same/in.png", "dog", None),
        ("dog/same/out.png", "dog", None),
        ("fox/1.png", "fox", None),
        ("fox/deep/2.png", "fox", None),
    ]
    (tmp_path / "elsewhere/deep/2.png").write_bytes(b"through two links")
    assert FolderSource(root).read("dog/folder/deep/2.png") == b"through two links"
    # The version is that of the file that a link leads to.
    os.utime(tmp_path / "outside.png", ns=(1, 1))
    assert _columns(root, "version")[2] == ("7 1",)


def test_a_tree_of_links_keeps_its_splits(tmp_path: Path) -> None:
    touch(tmp_path / "store", "1.png", "2.png", "3.png")
    for path, target in (("train/a/x.png", "1"), ("train/b/y.png", "2"), ("test/a/z.png", "3")):
        (tmp_path / "root" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / path).symlink_to(tmp_path / f"store/{target}.png")
    assert _columns(tmp_path / "root", "path", "label", "split", "obstacle") == [
        ("test/a/z.png", "a", "test", None),
        ("train/a/x.png", "a", "train", None),
        ("train/b/y.png", "b", "train", None),
    ]


def test_links_that_lead_nowhere_or_in_a_circle_are_listed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(root, "cat/1.png", "dog/deep/1.png")
    (root / "cat/gone.png").symlink_to("nowhere.png")
    (root / "cat/itself.png").symlink_to("itself.png")
    (root / "cat/there").symlink_to("back")
    (root / "cat/back").symlink_to("there")
    (root / "dog/deep/again").symlink_to(root / "dog")
    (root / "dog/top").symlink_to("..")
    (root / "dog/above").symlink_to("../..")
    (root / "cat/cross").symlink_to("../dog/deep")  # where `again` leads above it
    (root / "fox").symlink_to(tmp_path / "not mounted")
    (root / "self").symlink_to(".")
    (root / "README.md").symlink_to("gone.md")
    broken = "broken link: leads "
    gone = ": No such file or directory"
    assert _columns(root, "path", "label", "obstacle") == [
        ("README.md", None, f"{broken}to gone.md{gone}"),
        ("cat/1.png", "cat", None),
        ("cat/back", "cat", f"{broken}in a circle, to there"),
        ("cat/cross/1.png", "cat", None),
        ("cat/cross/again", "cat", f"{broken}in a circle, to {root}/dog"),
        ("cat/gone.png", "cat", f"{broken}to nowhere.png{gone}"),
        ("cat/itself.png", "cat", f"{broken}in a circle, to itself.png"),
        ("cat/there", "cat", f"{broken}in a circle, to back"),
        ("dog/above", "dog", f"{broken}in a circle, to ../.."),
        ("dog/deep/1.png", "dog", None),
        ("dog/deep/again", "dog", f"{broken}in a circle, to {root}/dog"),
        ("dog/top", "dog", f"{broken}in a circle, to .."),
        ("fox", None, f"{broken}to {tmp_path}/not mounted{gone}"),
        ("self", None, f"{broken}in a circle, to ."),
    ]
    assert _scan(root).ignored == ()


def test_a_link_to_the_whole_data_folder_is_fine(tmp_path: Path) -> None:
    touch(tmp_path / "real", "cat/1.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert _columns(tmp_path / "link", "path", "obstacle") == [("cat/1.png", None)]


def test_what_would_hang_is_not_opened(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png")
    os.mkfifo(tmp_path / "cat/pipe.png")
    assert _columns(tmp_path, "path", "obstacle")[1] == ("cat/pipe.png", "not a regular file")


def test_a_name_that_is_no_text_is_spelt_out(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png")
    (tmp_path / "cat" / os.fsdecode(b"\xff.png")).touch()
    assert _columns(tmp_path, "path", "obstacle")[1] == (
        "cat/\\xff.png",
        "file name is not UTF-8; rename it",
    )


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "cat/1.png")

    def refuse(_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PipelineError, match=r"cannot list .*: Permission denied; allow reading it"):
        _scan(tmp_path)


def test_links_to_class_folders_that_are_all_broken(tmp_path: Path) -> None:
    (tmp_path / "cat").symlink_to("nowhere")
    message = r"no class folders, but files: cat \(broken link: leads to nowhere: No such file"
    with pytest.raises(PipelineError, match=message):
        _scan(tmp_path)


def test_reading_what_is_gone_or_too_large(tmp_path: Path) -> None:
    touch(tmp_path, "cat/1.png")
    with pytest.raises(UnusableImageError, match=r"^unreadable: No such file or directory$"):
        FolderSource(tmp_path).read("cat/2.png")
    with (tmp_path / "cat/1.png").open("wb") as file:
        file.truncate(2**40)  # takes no room on the disk
    with pytest.raises(UnusableImageError, match=r"^too large: 1099511627776 bytes, an image of 9"):
        FolderSource(tmp_path).read("cat/1.png", max_pixels=9)
