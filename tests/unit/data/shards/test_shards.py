import shutil

import numpy as np
import pyarrow as pa
import pytest

from pipeline.data.shards.preprocessing import Preprocessing
from pipeline.data.shards.shards import ImageSet, SetInfo, ShardWriter, open_once
from pipeline.errors import PipelineError
from tests.packed import BARS, bars, write_set

INFO = SetInfo(("cat", "dog"), Preprocessing(2, 3, 1, "stretch", 0, 8), "uint8")


def rows(count, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.integers(0, 256, (count, 2, 3, 1)).astype(np.uint8),
        [int(label) for label in rng.integers(0, 2, count)],
        [f"id{number}" for number in range(count)],
        [None if number % 3 else f"parent{number}" for number in range(count)],
        [f"cats/{number}.png" for number in range(count)],
    )


def write(folder, columns, pieces, rows_per_shard=512):
    """Write the columns in pieces of the given sizes."""
    with ShardWriter(folder, INFO, rows_per_shard) as writer:
        start = 0
        for size in pieces:
            writer.write(*(column[start : start + size] for column in columns))
            start += size
    assert start == len(columns[0])
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_what_is_written_is_read_back_over_batches_and_shards(tmp_path):
    columns = rows(1300)
    files = write(tmp_path / "set", columns, [1300])
    assert list(files) == [f"shard-0000{n}.arrow" for n in range(3)]

    images = ImageSet.open(tmp_path / "set")

    assert len(images) == 1300
    assert images.info == INFO
    assert images.labels.tolist() == columns[1]
    assert [images.ids, images.parents, images.paths] == list(columns[2:])
    assert images.class_counts().tolist() == [columns[1].count(0), columns[1].count(1)]
    assert (np.concatenate(list(images.batches(77))) == columns[0]).all()
    wanted = np.array([1299, 0, 255, 256, 511, 512, 0, 700])
    assert (images.gather(wanted) == columns[0][wanted]).all()
    assert images.gather(np.array([], int)).shape == (0, 2, 3, 1)


@pytest.mark.parametrize("row", [-1, 10])
def test_rows_outside_are_refused(tmp_path, row):
    write(tmp_path, rows(10), [10])
    with pytest.raises(IndexError, match="of a set of 10"):
        ImageSet.open(tmp_path).gather(np.array([row]))


@pytest.mark.parametrize("pieces", [[1] * 700, [256, 444], [255, 2, 443], [0, 700]])
def test_equal_rows_give_equal_bytes_however_they_arrive(tmp_path, pieces):
    columns = rows(700)
    whole = write(tmp_path / "whole", columns, [700])
    assert write(tmp_path / "pieces", columns, pieces) == whole


@pytest.mark.parametrize(
    ("side", "dtype", "batch"),
    [(28, "uint8", 256), (224, "uint8", 55), (1024, "uint8", 2), (4096, "uint16", 1)],
)
def test_record_batches_of_large_images_have_few_rows(side, dtype, batch):
    info = SetInfo(("a",), Preprocessing(side, side, 3, "stretch", 0, 8), dtype)
    assert info.bytes_per_image == side * side * 3 * np.dtype(dtype).itemsize
    assert info.rows_per_batch == batch
    assert batch == 1 or batch * info.bytes_per_image <= 8 * 2**20


def test_large_images_are_written_in_small_batches(tmp_path):
    info = SetInfo(("a",), Preprocessing(1024, 1024, 3, "stretch", 0, 8), "uint8")
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones(info.shape, np.uint8)
    with ShardWriter(tmp_path, info, 4) as writer:
        writer.write(images, [0] * 5, list("abcde"), [None] * 5, list("abcde"))
    batches = []
    for path in sorted(tmp_path.iterdir()):
        reader = pa.ipc.open_file(str(path))
        batches.append([reader.get_batch(n).num_rows for n in range(reader.num_record_batches)])
    assert batches == [[2, 2], [1]]
    assert (ImageSet.open(tmp_path).gather(np.arange(5)) == images).all()


def test_a_writer_keeps_no_view_of_what_it_was_given(tmp_path):
    columns = rows(10)
    expected = columns[0].copy()
    with ShardWriter(tmp_path, INFO, 512) as writer:
        writer.write(*columns)
        writer.write(*columns)
    assert (ImageSet.open(tmp_path).gather(np.arange(20))[10:] == expected).all()


def test_several_folders_are_one_set(tmp_path):
    first, second = rows(300, seed=1), rows(20, seed=2)
    write(tmp_path / "a", first, [300])
    write(tmp_path / "b", second, [20])
    both = ImageSet.open(tmp_path / "a", tmp_path / "b")
    assert (both.gather(np.array([299, 300, 319])) == [first[0][299], *second[0][[0, 19]]]).all()


def test_an_empty_set_still_knows_its_classes(tmp_path):
    write(tmp_path / "none", rows(0), [])
    write(tmp_path / "some", rows(5), [5])
    empty = ImageSet.open(tmp_path / "none")
    assert len(empty) == 0
    assert empty.info == INFO
    assert empty.class_counts().tolist() == [0, 0]
    assert list(empty.batches(8)) == []
    assert empty.ids == []
    both = ImageSet.open(tmp_path / "some", tmp_path / "none", tmp_path / "some")
    assert both.gather(np.arange(10)).shape == (10, 2, 3, 1)


def test_any_arrow_reader_opens_a_shard(tmp_path):
    columns = rows(10)
    write(tmp_path, columns, [10])
    table = pa.ipc.open_file(str(tmp_path / "shard-00000.arrow")).read_all()
    assert table.schema.field("image").type == pa.fixed_shape_tensor(pa.uint8(), (2, 3, 1))
    tensor = table["image"].combine_chunks().to_numpy_ndarray()
    assert (tensor == columns[0]).all()


def test_16_bit_images(tmp_path):
    info = SetInfo(("a",), Preprocessing(1, 2, 3, "stretch", 0, 16), "uint16")
    images = np.arange(12, dtype=np.uint16).reshape(2, 1, 2, 3) * 5000
    with ShardWriter(tmp_path, info, 1) as writer:
        writer.write(images, [0, 0], ["x", "y"], [None, None], ["x", "y"])
    found = ImageSet.open(tmp_path)
    assert found.info == info
    assert (found.gather(np.arange(2)) == images).all()


def test_a_missing_set_is_named(tmp_path):
    with pytest.raises(PipelineError, match=r"no packed images in .*nowhere; run dvc repro"):
        ImageSet.open(tmp_path / "nowhere")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_damaged_shard_is_named(tmp_path, keep):
    content = write(tmp_path, rows(300), [300])["shard-00000.arrow"]
    kept = keep if isinstance(keep, int) else int(keep * len(content))
    (tmp_path / "shard-00000.arrow").write_bytes(content[:kept])
    message = r"shard-00000\.arrow is not a whole Arrow file \(.*\); delete it and run dvc repro"
    with pytest.raises(PipelineError, match=message):
        ImageSet.open(tmp_path)


def test_a_foreign_arrow_file_is_named(tmp_path):
    table = pa.table({"x": [1]})
    with pa.ipc.new_file(str(tmp_path / "shard-00000.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(PipelineError, match=r"shard-00000\.arrow was not written by convoy pack"):
        ImageSet.open(tmp_path)


def test_sets_that_do_not_match_are_refused(tmp_path):
    write(tmp_path / "a", rows(3), [3])
    other = SetInfo(("cat", "elk"), INFO.preprocessing, "uint8")
    with ShardWriter(tmp_path / "b", other, 512):
        pass
    with pytest.raises(PipelineError, match=r"a and .*b were packed with different classes"):
        ImageSet.open(tmp_path / "a", tmp_path / "b")


def test_shards_are_few_and_large():
    info = SetInfo(("a", "b"), Preprocessing(8, 8, 3, "crop", 0, 8), "uint8")
    assert info.rows_per_shard * 192 == pytest.approx(128 * 2**20, rel=1e-3)
    large = SetInfo(("a",), Preprocessing(20_000, 20_000, 3, "pad", 0, 16), "uint16")
    assert large.rows_per_shard == 1


def test_a_set_is_opened_once_until_it_changes(tmp_path):
    write_set(tmp_path / "set", *bars(6), BARS)
    first = open_once(tmp_path / "set")
    assert open_once(tmp_path / "set") is first
    shutil.rmtree(tmp_path / "set")
    write_set(tmp_path / "set", *bars(9), BARS)
    assert len(open_once(tmp_path / "set")) == 9
    with pytest.raises(PipelineError, match="no packed images"):
        open_once(tmp_path / "other")
