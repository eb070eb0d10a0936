"""Images below an address, in fsspec's memory."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow.compute as pc
import pytest

from pipeline.data.images.decode import UnusableImageError
from pipeline.data.indexing.measurements import measure_all
from pipeline.data.indexing.verify import Limits
from pipeline.data.packing.pack import PackRow, pack
from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.data.shards.shards import SetInfo
from pipeline.data.sources import source as source_module
from pipeline.data.sources.folder import FolderSource
from pipeline.data.sources.manifest import ManifestSource
from pipeline.data.sources.open import open_source
from pipeline.data.sources.source import read_ahead
from pipeline.errors import PipelineError
from tests.images import write_folder
from tests.projects import contents
from tests.unit.data.sources.listings import columns_of

ROOT = "memory://bucket/images"


@pytest.fixture
def bucket() -> Iterator[fsspec.AbstractFileSystem]:
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield fs
    fs.store.clear()


def _fill(fs: fsspec.AbstractFileSystem, *paths: str) -> None:
    for path in paths:
        fs.pipe_file(f"/bucket/images/{path}", b"x" * 7)


PATHS = (
    *("dog/b.png", "cat/2.png", "cat/deep/er/1.png", "cat/.hidden", ".git/x", "SOURCE.md"),
    *("notes.txt", "loose.png", "__MACOSX/cat/1.png", "cat/Thumbs.db", "cat/labels.csv"),
    *("annotations/1.xml", "annotations/deep/2.xml", "cat-like/1.png", "cat é/1.png"),
)


def test_it_is_listed_as_the_same_files_in_a_folder(bucket, tmp_path: Path) -> None:
    _fill(bucket, *PATHS)
    for path in PATHS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x" * 7)
    names = ("path", "label", "split", "group", "obstacle")
    there, here = open_source(ROOT), FolderSource(tmp_path)
    assert there == FolderSource(ROOT) == open_source(f"{ROOT}/")
    assert columns_of(there, *names) == columns_of(here, *names)
    assert there.list_images().ignored == here.list_images().ignored
    assert there.read("cat/deep/er/1.png") == b"x" * 7


def test_given_splits_and_markers_of_folders(bucket) -> None:
    _fill(bucket, "train/a/1.png", "val/a/2.png", "test/b/3.png")
    bucket.store["/bucket/images/train/"] = bucket.store["/bucket/images/train/a/1.png"]
    assert columns_of(open_source(ROOT), "path", "label", "split") == [
        ("test/b/3.png", "b", "test"),
        ("train/a/1.png", "a", "train"),
        ("val/a/2.png", "a", "val"),
    ]


def test_a_key_with_two_slashes(bucket) -> None:
    _fill(bucket, "a/1.png", "b/2.png", "b//3.png", "/c/4.png")
    found = open_source(ROOT).list_images()
    assert found.images["path"].to_pylist() == ["a/1.png", "b//3.png", "b/2.png"]
    assert found.ignored == ("/c/4.png",)
    assert open_source(ROOT).read("b//3.png") == b"x" * 7


def test_a_key_that_is_read_as_a_version(bucket) -> None:
    _fill(bucket, "a/1.png", "b/2.png", "b/3.png?versionId=null")
    assert columns_of(open_source(ROOT), "path", "obstacle")[2] == (
        "b/3.png?versionId=null",
        "its name holds ?versionId=, which s3fs takes for a version; rename it",
    )


def test_the_version_changes_with_the_content(bucket) -> None:
    _fill(bucket, "cat/1.png")
    source = open_source(ROOT)
    first = columns_of(source, "version")
    assert columns_of(source, "version") == first
    bucket.pipe_file("/bucket/images/cat/1.png", b"y" * 7)
    assert columns_of(source, "version") != first


def test_a_manifest(bucket) -> None:
    _fill(bucket, "img/a.png", "b.png")
    bucket.pipe_file(
        "/bucket/images/list.csv", b"path,label,split\nimg/a.png,007,train\nb.png,8,\nc.png,8,\n"
    )
    source = open_source(f"{ROOT}/list.csv")
    assert source == ManifestSource(f"{ROOT}/list.csv")
    assert source.folder == ROOT
    assert columns_of(source, "path", "label", "split", "obstacle") == [
        ("b.png", "8", None, None),
        ("c.png", "8", None, "unreadable: No such file or directory"),
        ("img/a.png", "007", "train", None),
    ]
    assert source.read("img/a.png") == b"x" * 7


def test_what_cannot_be_read(bucket) -> None:
    _fill(bucket, "cat/1.png")
    source = open_source(ROOT)
    with pytest.raises(UnusableImageError, match=r"^unreadable: No such file or directory$"):
        source.read("cat/2.png")
    bucket.pipe_file("/bucket/images/cat/1.png", bytes(17 * 2**20))
    with pytest.raises(UnusableImageError, match=r"^too large: "):
        source.read("cat/1.png", max_pixels=9)


@pytest.mark.parametrize(
    ("root", "message"),
    [
        (
            "memory://bucket/none",
            r"data\.root is memory://bucket/none: no such folder or manif",
        ),
        (
            "memory://bucket/none.csv",
            r"cannot read the manifest memory://bucket/none\.csv: .*no ",
        ),
        ("memory://bucket/a.parquet", r"a\.parquet: Parquet files are read from folders only; "),
        ("memory://", r"data\.root is memory://, expected a bucket such as s3://BUCKET/"),
        ("nosuch://a/b", r"data\.root nosuch://a/b cannot be opened: .*; or name a folder"),
        ("memory://bucket/images/a.png", r"a\.png: no such folder or manifest; .* \.csv manifest$"),
        (
            "memory://bucket//images",
            r"is memory://bucket//images, .*without empty parts",
        ),
        (
            "memory://bucket/x/../images",
            r"expected a bucket .*, without empty parts, \. or \.\.",
        ),
        (ROOT, r"images has no class folders, but files: a\.png; .*cats/ and dogs/$"),
    ],
)
def test_mistakes(bucket, root: str, message: str) -> None:
    _fill(bucket, "a.png")
    with pytest.raises(PipelineError, match=message):
        open_source(root).list_images()


def test_index_and_pack_find_the_same_there_as_here(
    bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source_module, "AT_ONCE", 3)
    images_in = write_folder(tmp_path / "in", 10)
    (images_in / "cat/empty.png").touch()
    (images_in / "dog/text.png").write_text("text")
    for path in images_in.rglob("*.*"):
        bucket.pipe_file(
            f"/bucket/images/{path.relative_to(images_in).as_posix()}", path.read_bytes()
        )
    tables = []
    for number, source in enumerate((FolderSource(images_in), open_source(ROOT))):
        listed = source.list_images().images
        table = measure_all(source, listed, Limits(10_000, 4), tmp_path / f"cache{number}", 1)
        tables.append(table.drop_columns(["version"]))
        usable = table.filter(pc.is_null(table["problem"]))
        rows = [
            PackRow(path, int(label == "dog"), sha256)
            for path, label, sha256 in zip(
                *(usable[name].to_pylist() for name in ("path", "label", "sha256")), strict=True
            )
        ]
        info = SetInfo(("cat", "dog"), Preprocessing(8, 8, 3, "pad", 0, 8), "uint8")
        pack(rows, source, info, tmp_path / f"packed{number}", workers=2)
    assert tables[0].equals(tables[1])
    assert tables[0]["problem"].null_count == 10
    assert len(tables[0]) == 12
    assert contents(tmp_path / "packed0") == contents(tmp_path / "packed1")


def test_reading_ahead_keeps_the_order_and_little_in_memory(bucket, monkeypatch) -> None:
    paths = [f"a/{number:03}.png" for number in range(100)]
    for path in paths:
        bucket.pipe_file(f"/bucket/images/{path}", path.encode())
    bucket.rm_file("/bucket/images/a/050.png")
    begun: list[str] = []
    read = FolderSource.read

    def counted(source, path, max_pixels=None):
        begun.append(path)
        return read(source, path, max_pixels)

    monkeypatch.setattr(FolderSource, "read", counted)
    for number, content in enumerate(read_ahead(open_source(ROOT), paths)):
        if number == 50:
            assert isinstance(content, UnusableImageError)
        else:
            assert content == paths[number].encode()
        assert len(begun) <= number + 1 + source_module.AT_ONCE
    assert sorted(begun) == paths
