import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.data.images.decode import UnusableImageError
from pipeline.data.sources.open import open_source
from pipeline.data.sources.parquet import ParquetSource
from pipeline.errors import PipelineError
from tests.hub import IMAGE, write_hub_file
from tests.unit.data.sources.listings import columns_of

CLASSES = ("cat", "dog")
_SIZE = "pipeline.data.sources._image_column._BYTES_PER_BATCH"


def _contents(count: int, seed: int = 0) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [rng.bytes(int(size)) for size in rng.integers(1, 300, count)]


def _columns(root: Path, *names: str) -> list[tuple[object, ...]]:
    return columns_of(ParquetSource(root), *names)


def _write(file: Path, columns: dict[str, object], metadata: dict[str, str] | None = None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), file)
    return file


def test_a_hub_file_lists_its_rows(tmp_path: Path) -> None:
    file = write_hub_file(tmp_path / "data.parquet", [b"x", b"yy", b"z"], [0, 1, 0], CLASSES)
    assert _columns(file, "path", "label", "split", "group", "obstacle") == [
        ("data.parquet/0000000", "cat", None, None, None),
        ("data.parquet/0000001", "dog", None, None, None),
        ("data.parquet/0000002", "cat", None, None, None),
    ]
    source = ParquetSource(file)
    assert source.folder == tmp_path
    assert source.read("data.parquet/0000001") == b"yy"


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"), ("train", "test")),
        (("data/train-0-of-2-0af.parquet", "data/validation-0.parquet"), ("train", "val")),
        (("default/train/0000.parquet", "default/test/0000.parquet"), ("train", "test")),
        (("Train.parquet", "valid_1.PARQUET"), ("train", "val")),
        (("trainer.parquet", "part-1.parquet"), (None, None)),
    ],
)
def test_files_and_folders_named_after_splits(
    tmp_path: Path, names: tuple[str, ...], splits: tuple[str | None, ...]
) -> None:
    for number, name in enumerate(names):
        write_hub_file(tmp_path / name, [b"x%d" % number], [number], CLASSES)
    (tmp_path / "README.md").touch()
    (tmp_path / "LICENSE").touch()
    (tmp_path / "dataset_infos.json").touch()
    (tmp_path / ".gitattributes").touch()
    assert ParquetSource.accepts(tmp_path)
    found = dict(zip(names, splits, strict=True))
    assert _columns(tmp_path, "path", "split") == [
        (f"{name}/0000000", found[name]) for name in sorted(names)
    ]
    for number, name in enumerate(names):
        assert ParquetSource(tmp_path).read(f"{name}/0000000") == b"x%d" % number


def test_columns_for_split_and_group(tmp_path: Path) -> None:
    given = {"split": ["test", None, "Validation", " "], "group": ["g1", "g1", "", None]}
    file = write_hub_file(tmp_path / "train.parquet", [b"x"] * 4, [0] * 4, CLASSES, **given)
    assert _columns(file, "split", "group") == [
        ("test", "g1"),
        ("train", "g1"),
        ("val", None),
        ("train", None),
    ]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (pa.array([3, 10]), ["3", "10"]),
        (pa.array([3, 10], pa.uint8()), ["3", "10"]),
        (pa.array(["b", " a "]), ["b", "a"]),
        (pa.array(["b", "a"], pa.large_string()), ["b", "a"]),
        (pa.array(["b", "a"]).dictionary_encode(), ["b", "a"]),
        (pa.array([7, 8]).dictionary_encode(), ["7", "8"]),
    ],
)
def test_labels_without_names_are_text(
    tmp_path: Path, labels: pa.Array, expected: list[str]
) -> None:
    file = _write(tmp_path / "a.parquet", {"photo": [b"x", b"y"], "target": labels})
    assert _columns(file, "label", "obstacle") == [(label, None) for label in expected]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view(), IMAGE])
def test_image_columns_of_every_type(tmp_path: Path, kind: pa.DataType) -> None:
    values = [b"x", None, b"", b"long enough not to be kept in the view"]
    if pa.types.is_struct(kind):
        values = [None if value is None else {"bytes": value} for value in values]
    file = _write(tmp_path / "a.parquet", {"picture": pa.array(values, kind), "label": [0] * 4})
    assert open_source(file) == ParquetSource(file)
    contents = [ParquetSource(file).read(f"a.parquet/{row:07d}") for row in range(4)]
    assert contents == [b"x", b"", b"", b"long enough not to be kept in the view"]


def test_a_row_without_a_label_is_listed(tmp_path: Path) -> None:
    labels = [0, None, -1, 1, 2]
    file = write_hub_file(tmp_path / "a.parquet", [b"x"] * 5, labels, CLASSES)
    unnamed = "no label: the 2 classes that the file names have no number "
    assert _columns(file, "label", "obstacle") == [
        ("cat", None),
        (None, "no label: the row has none"),
        (None, f"{unnamed}-1"),
        ("dog", None),
        (None, f"{unnamed}2"),
    ]
    _write(file, {"image": [b"x"] * 3, "label": ["a", None, ""]})
    none = (None, "no label: the row has none")
    assert _columns(file, "label", "obstacle") == [("a", None), none, none]


@pytest.mark.parametrize("rows_per_group", [1, 7, 100, 1000])
def test_rows_in_any_order(
    tmp_path: Path, rows_per_group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipeline.data.sources._image_column._BYTES_PER_BATCH", 2000
    )  # some ten rows
    contents = {name: _contents(300, seed) for seed, name in enumerate(("a", "b"))}
    for name, values in contents.items():
        write_hub_file(tmp_path / f"{name}.parquet", values, [0] * 300, CLASSES, rows_per_group)
    source = ParquetSource(tmp_path)
    ascending = [(name, row) for name in contents for row in range(300)]
    shuffled = [ascending[at] for at in np.random.default_rng(0).permutation(600)[:200]]
    for name, row in [*ascending, *ascending[::-7], *shuffled, *ascending[::13]]:
        assert source.read(f"{name}.parquet/{row:07d}") == contents[name][row]


def test_a_row_is_read_without_the_rest_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In ascending order every row is decoded once; a single row takes its row group at most."""
    contents = _contents(400)
    file = write_hub_file(tmp_path / "a.parquet", contents, [0] * 400, CLASSES, 100)
    decoded = []
    batches = pq.ParquetFile.iter_batches

    def counted(*args, **named):
        for batch in batches(*args, **named):
            decoded.append(len(batch))
            yield batch

    monkeypatch.setattr(_SIZE, 2000)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    source = ParquetSource(file)
    for row in range(400):
        source.read(f"a.parquet/{row:07d}")
    assert sum(decoded) == 400
    assert max(decoded) < 30
    decoded.clear()
    source.read("a.parquet/0000150")
    assert 51 <= sum(decoded) < 80


def test_memory_stays_flat_over_one_large_row_group(tmp_path: Path) -> None:
    """100,000 images, 200 MB, in a single row group: a fraction of it is ever held."""
    code = """
import resource, sys
from pathlib import Path
from pipeline.data.sources.open import open_source
source = open_source(Path(sys.argv[1]))
source.read("a.parquet/0000000")
paths = source.list_images().images["path"].to_pylist()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
total = sum(len(source.read(path)) for path in paths)
print(total, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1000)
"""
    block = np.random.default_rng(0).bytes(1_000_000)
    contents = [block[at : at + 2000] for at in np.arange(100_000) * 9973 % 996_000]
    write_hub_file(tmp_path / "a.parquet", contents, [0] * 100_000, CLASSES, 100_000)
    command = [sys.executable, "-c", code, str(tmp_path / "a.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    total, grown_mb = map(int, done.stdout.split())
    assert total == 200_000_000
    assert grown_mb < 70


def test_a_file_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    file = write_hub_file(tmp_path / "a.parquet", [b"x", b"y"], [0, 1], CLASSES)
    versions = _columns(file, "version")
    assert len(set(versions)) == 1
    assert ParquetSource(file).read("a.parquet/0000001") == b"y"
    write_hub_file(file, [b"x", b"other"], [0, 1], CLASSES)
    assert ParquetSource(file).read("a.parquet/0000001") == b"other"
    assert set(versions).isdisjoint(_columns(file, "version"))
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert len({*versions, *_columns(file, "version")}) == 2


def _read_all(source: ParquetSource, paths: list[str]) -> list[bytes]:
    return [source.read(path) for path in paths]


def test_threads_and_processes_have_readers_of_their_own(tmp_path: Path) -> None:
    contents = _contents(300)
    file = write_hub_file(tmp_path / "a.parquet", contents, [0] * 300, CLASSES, 50)
    source = ParquetSource(file)
    paths = [f"a.parquet/{row:07d}" for row in range(300)]
    assert source.read(paths[120]) == contents[120]
    assert pickle.loads(pickle.dumps(source)) == source
    assert len(pickle.dumps(source)) < 1000
    orders = [paths, paths[::-1], paths[150:] + paths[:150], paths]
    with ThreadPoolExecutor(4) as pool:
        for order, found in zip(orders, pool.map(_read_all, [source] * 4, orders), strict=True):
            assert found == [contents[int(path[-7:])] for path in order]
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.starmap(_read_all, [(source, paths)] * 2) == [contents] * 2
    assert source.read(paths[121]) == contents[121]


def test_what_is_no_row_is_unreadable(tmp_path: Path) -> None:
    source = ParquetSource(write_hub_file(tmp_path / "a.parquet", [b"x"], [0], CLASSES))
    with pytest.raises(UnusableImageError, match=r"^unreadable: the file has fewer rows$"):
        source.read("a.parquet/0000001")
    with pytest.raises(UnusableImageError, match=r"^unreadable: not the name of a row"):
        source.read("cat/1.png")
    with pytest.raises(UnusableImageError, match=r"^unreadable: .*No such file"):
        source.read("b.parquet/0000000")


def test_too_many_bytes_for_an_image(tmp_path: Path) -> None:
    large = bytes(2**24 + 73)
    source = ParquetSource(write_hub_file(tmp_path / "a.parquet", [large], [0], CLASSES))
    assert len(source.read("a.parquet/0000000")) == len(large)
    with pytest.raises(UnusableImageError, match=r"^too large: 16777289 bytes, an image of 9 p"):
        source.read("a.parquet/0000000", max_pixels=9)


def test_damaged_pages_are_problems_of_their_rows(tmp_path: Path) -> None:
    file = write_hub_file(tmp_path / "a.parquet", _contents(200), [0] * 200, CLASSES, 100)
    column = pq.read_metadata(file).row_group(1).column(0)
    content = bytearray(file.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    content[start : start + 400] = b"\xff" * 400
    file.write_bytes(content)
    source = ParquetSource(file)
    assert len(source.list_images().images) == 200
    assert source.read("a.parquet/0000099")
    for _ in range(2):
        with pytest.raises(UnusableImageError, match=r"^unreadable: "):
            source.read("a.parquet/0000100")
    assert source.read("a.parquet/0000000")


def test_a_table_of_paths_is_a_manifest(tmp_path: Path) -> None:
    file = _write(tmp_path / "a.parquet", {"path": ["x.png"], "label": ["a"]})
    assert not ParquetSource.accepts(file)
    _write(file, {"path": ["x.png"], "label": ["a"], "embedding": [b"123"]})
    assert not ParquetSource.accepts(file)
    _write(file, {"path": ["x.png"], "label": ["a"], "image": [b"123"]})
    assert ParquetSource.accepts(file)


def test_a_folder_of_images_is_none_of_parquet_files(tmp_path: Path) -> None:
    write_hub_file(tmp_path / "list.parquet", [b"x"], [0], CLASSES)
    assert ParquetSource.accepts(tmp_path)
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/1.png").touch()
    assert not ParquetSource.accepts(tmp_path)


def test_links_to_parquet_files_are_followed(tmp_path: Path) -> None:
    write_hub_file(tmp_path / "blobs/0af", [b"x"], [0], CLASSES)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/train.parquet").symlink_to("../blobs/0af")
    assert _columns(tmp_path / "in", "path", "split") == [("train.parquet/0000000", "train")]
    assert open_source(tmp_path / "in").read("train.parquet/0000000") == b"x"
    (tmp_path / "in/test.parquet").symlink_to("../blobs/gone")
    message = r"in/test\.parquet: broken link: leads to \.\./blobs/gone: .*; repair or remove it"
    with pytest.raises(PipelineError, match=message):
        ParquetSource(tmp_path / "in").list_images()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": [b"x"]}, r"no label column, found image; expected one of label, labels, fine_"),
        (
            {"image": [b"x"], "label": [0], "target": [1]},
            r"the columns label, target may all hold the labels; keep one of them, or rename the"
            r" others, found image, label, target",
        ),
        ({"image": [b"x"], "label": [0.5]}, "column of labels holds double, expected integers or"),
        ({"image": [b"x"], "label": [[0]]}, "column of labels holds list<.*>, expected integers"),
        ({"image": ["x.png"], "label": [0]}, "no column of image bytes, found image, label; exp"),
        (
            {"left": [b"x"], "right": [b"y"], "label": [0]},
            "the columns left, right may all hold the images; name one of them image",
        ),
        (
            {"image": [b"x"], "label": [0], "split": ["dev"]},
            "the column split holds dev, expected train, val, test or nothing",
        ),
        (
            {"image": [b"x"], "label": [0], "group": [[1]]},
            "column group holds list<.*>, expected text; convert it",
        ),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    _write(tmp_path / "a.parquet", columns)
    with pytest.raises(PipelineError, match=rf"a\.parquet: .*{message}"):
        ParquetSource(tmp_path).list_images()


def test_the_image_column_among_several(tmp_path: Path) -> None:
    columns = {"mask": [b"m"], "image": [b"x"], "thumb": [{"bytes": b"t"}], "fine_label": [0]}
    file = _write(tmp_path / "a.parquet", {**columns, "coarse_label": [9]})
    assert _columns(file, "label") == [("0",)]
    assert ParquetSource(file).read("a.parquet/0000000") == b"x"


def test_mistakes_among_files(tmp_path: Path) -> None:
    write_hub_file(tmp_path / "train.parquet", [b"x"], [0], CLASSES)
    write_hub_file(tmp_path / "extra.parquet", [b"x"], [0], CLASSES)
    message = r"files with a given split \(train\.parquet\) beside others without \(extra\.parquet"
    with pytest.raises(PipelineError, match=message):
        ParquetSource(tmp_path).list_images()
    write_hub_file(tmp_path / "extra.parquet", [b"x"], [0], CLASSES, split=["test"])
    assert _columns(tmp_path, "split") == [("test",), ("train",)]
    write_hub_file(tmp_path / "extra.parquet", [b"x"], [0], ("dog", "cat"), split=["test"])
    message = r"extra\.parquet and train\.parquet give different names .*: dog, cat, and cat, dog;"
    with pytest.raises(PipelineError, match=message):
        ParquetSource(tmp_path).list_images()


def test_files_without_rows(tmp_path: Path) -> None:
    write_hub_file(tmp_path / "a.parquet", [], [], CLASSES)
    with pytest.raises(PipelineError, match="has no rows; get the file again"):
        ParquetSource(tmp_path).list_images()
    write_hub_file(tmp_path / "b.parquet", [b"x"], [1], CLASSES)
    assert _columns(tmp_path, "path") == [("b.parquet/0000000",)]


def test_damaged_files(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"nonsense")
    with pytest.raises(PipelineError, match=r"cannot read .*a\.parquet: .*; get it again"):
        ParquetSource(tmp_path).list_images()
    with pytest.raises(PipelineError, match="cannot read the manifest"):
        open_source(tmp_path / "a.parquet").list_images()
    _write(tmp_path / "a.parquet", {"image": [b"x"], "label": [0]}, {"huggingface": "{"})
    with pytest.raises(PipelineError, match=r"a\.parquet: the metadata 'huggingface' is no JSON"):
        ParquetSource(tmp_path).list_images()


@pytest.mark.parametrize(
    "metadata",
    ["[]", "{}", '{"info": null}', '{"info": {"features": {"label": {"dtype": "int64"}}}}',
     '{"info": {"features": {"label": {"names": null}}}}',
     '{"info": {"features": {"label": {"names": [1, 2]}}}}'],
)  # fmt: skip
def test_metadata_without_names_leaves_numbers(tmp_path: Path, metadata: str) -> None:
    columns = {"image": [b"x"], "label": [1]}
    file = _write(tmp_path / "a.parquet", columns, {"huggingface": metadata})
    assert _columns(file, "label") == [("1",)]
