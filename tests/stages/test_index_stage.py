"""index: what can be used, what is left out, and the same from any source."""

import hashlib
import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.data.indexing import measurements as measure
from pipeline.data.indexing.same_picture import Pictures
from pipeline.data.shards.shards import ImageSet
from pipeline.data.sources.parquet import ParquetSource
from pipeline.errors import PipelineError
from pipeline.stages import index, pack, sample, split
from tests.hub import write_hub_file
from tests.images import noise, params_with, write_folder
from tests.pictures import line_drawing

pytestmark = pytest.mark.usefixtures("project")


def _digests() -> dict[str, str]:
    return {
        path.as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("data", "reports")
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def test_the_chain_on_the_digits_twice_gives_the_same_bytes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    params = params_with()
    for stage in (sample, index, split):
        stage.run(params)
    first = _digests()
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("images of digits -> data/sample")
    count = int(said[0].split()[1])
    assert said[1] == (
        f"index: {count} images in 10 classes, 0 left out -> data/index.parquet, reports/data.json"
    )
    assert re.fullmatch(r"split: \d+ train, \d+ val, \d+ test -> data/split\.parquet", said[2])
    table = pq.read_table("data/split.parquet")
    assert len(table) == count
    assert set(zip(table["label"].to_pylist(), table["split"].to_pylist(), strict=True)) == {
        (str(digit), name) for digit in range(10) for name in ("train", "val", "test")
    }
    for stage in (sample, index, split):
        stage.run(params)
    assert _digests() == first


def test_the_bytes_depend_neither_on_workers_nor_on_the_cache(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = params_with(data={"root": str(write_folder(project / "in"))})
    index.run(params)
    first = _digests()
    monkeypatch.setattr(measure, "_IMAGES_PER_PIECE", 4)
    monkeypatch.setattr("pipeline.parallel.usable_cores", lambda: 2)
    (cache,) = Path(".convoy/index").iterdir()
    cache.unlink()
    index.run(params)
    assert _digests() == first


def _huge_png() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def _broken_folder(root: Path) -> Path:
    write_folder(root, 60)
    whole = (root / "cat/00.png").read_bytes()
    (root / "cat/truncated.png").write_bytes(whole[: len(whole) // 2])
    (root / "cat/zero.png").touch()
    (root / "cat/text.jpg").write_text("just text")
    (root / "dog/huge.png").write_bytes(_huge_png())
    Image.new("L", (3, 9)).save(root / "dog/tiny.png")
    noise(500).save(root / "cat/both.png")
    noise(500).save(root / "dog/both.png")
    noise(1).save(root / "dog/again.png")
    return root


REASONS = [
    ("cat/both.png", "same content under two labels: cat, and dog as dog/both.png"),
    ("cat/text.jpg", "not an image: no known format"),
    ("cat/truncated.png", "truncated: the file ends before the image does"),
    ("cat/zero.png", "empty: 0 bytes"),
    ("dog/again.png", "copy of dog/01.png"),
    ("dog/both.png", "same content under two labels: dog, and cat as cat/both.png"),
    (
        "dog/huge.png",
        "too large: 30000 x 30000 px is 900000000 pixels, index.max_pixels is 100000000",
    ),
    ("dog/tiny.png", "too small: 3 x 9 px, index.min_side is 4 px"),
]


def test_a_broken_folder_is_listed_with_reasons(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = params_with(
        data={"root": str(_broken_folder(project / "in"))}, index={"max_bad_fraction": 0.2}
    )
    index.run(params)
    report = json.loads(Path("reports/data.json").read_text())
    assert [(row["path"], row["problem"]) for row in report["left_out"]] == REASONS
    assert report["bad"] == 7
    assert report["usable"] == 60
    said = capsys.readouterr().out
    assert "index: 60 images in 2 classes, 8 left out (1 copy, 1 empty, 1 not an image," in said
    split.run(params)
    assert len(pq.read_table("data/split.parquet")) == 60


def test_too_many_bad_files_stop_the_run_but_leave_the_list(project: Path) -> None:
    params = params_with(
        data={"root": str(_broken_folder(project / "in"))}, index={"max_bad_fraction": 0.1}
    )
    message = (
        r"7 of 68 files in .*/in cannot be used, more than index\.max_bad_fraction = 0\.1:"
        r" cat/both\.png \(same content .*\), cat/text\.jpg \(not an image: .*\), .* and 4 more;"
        r" all are listed in reports/data\.json; repair or remove them, or raise the fraction"
    )
    with pytest.raises(PipelineError, match=message):
        index.run(params)
    assert len(json.loads(Path("reports/data.json").read_text())["left_out"]) == 8
    assert not Path("data/index.parquet").exists()


def test_a_single_class_stops_the_run(project: Path) -> None:
    (project / "in/cat").mkdir(parents=True)
    noise(0).save(project / "in/cat/0.png")
    with pytest.raises(PipelineError, match="found the single class cat"):
        index.run(params_with(data={"root": "in"}))


def _rows_by_content(root: Path, **sections: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Index, split and pack; return label, split and pixels of each content hash."""
    params = params_with(data={"root": str(root)}, **sections)
    for stage in (index, split, pack):
        stage.run(params)
    rows = {}
    for name in ("train", "val", "test"):
        packed = ImageSet.open(Path("data/packed") / name)
        pixels = packed.gather(np.arange(len(packed)))
        labels = (packed.info.classes[label] for label in packed.labels)
        for content, label, image in zip(packed.ids, labels, pixels, strict=True):
            rows[content] = (name, label, image.tobytes())
    return rows


@pytest.mark.parametrize("given", [False, True])
def test_parquet_files_give_what_the_folder_of_the_same_images_gives(
    project: Path, given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes, names = ("cat", "dog"), ("train", "test") if given else ("all",)
    for number in range(120):
        where = names[number % 7 == 0] + "/" if given else ""
        path = project / "in" / where / classes[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(number).save(path)
    (project / "in/notes.md").touch()
    for name in names:
        images = sorted((project / "in" / (name if given else "")).rglob("*.png"))
        write_hub_file(
            project / f"hub/data/{name}-00000-of-00001.parquet",
            [path.read_bytes() for path in images],
            [classes.index(path.parent.name) for path in images],
            classes,
            rows_per_group=17,
        )
    expected = _rows_by_content(project / "in")
    assert len(expected) == 120
    assert _rows_by_content(project / "hub") == expected
    report = Path("reports/data.json").read_bytes()

    def refuse(*_: object) -> None:
        raise AssertionError("an image was read")

    with monkeypatch.context() as patch:
        patch.setattr(ParquetSource, "read", refuse)
        index.run(params_with(data={"root": str(project / "hub")}))
    assert Path("reports/data.json").read_bytes() == report


def test_drawings_of_one_template_are_no_near_duplicates_but_their_copies_are(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(60):
        path = project / "in" / ("cat", "dog")[number % 2] / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        line_drawing(number).save(path)
    index.run(params_with(data={"root": "in"}))
    report = json.loads(Path("reports/data.json").read_text())
    assert report["near_duplicates"]["clusters"] == 0
    line_drawing(8).save(project / "in/cat/copy.jpg", quality=60)
    index.run(params_with(data={"root": "in"}))
    report = json.loads(Path("reports/data.json").read_text())
    assert report["near_duplicates"]["examples"] == [["cat/08.png", "cat/copy.jpg"]]
    assert "index: 2 images in 1 groups of near duplicates" in capsys.readouterr().out


def test_only_pairs_with_a_new_picture_are_compared(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same, asked = Pictures.same, []

    def counted(self: Pictures, first: str, second: str) -> bool | None:
        asked.append({first, second})
        return same(self, first, second)

    monkeypatch.setattr(Pictures, "same", counted)
    # So many bits make candidates of all drawings.
    params = params_with(data={"root": "in"}, index={"near_duplicate_bits": 100})
    root = write_folder(project / "in")
    for number in range(6):  # of one template
        line_drawing(number).save(root / f"cat/drawn{number}.png")
    index.run(params)
    first, before = Path("data/index.parquet").read_bytes(), asked.copy()
    assert before
    asked.clear()
    index.run(params)
    assert asked == []
    assert Path("data/index.parquet").read_bytes() == first
    line_drawing(9).save(root / "dog/late.png")
    Path("in/cat/drawn0.png").rename("in/cat/renamed.png")
    index.run(params)
    assert asked
    assert all("dog/late.png" in pair for pair in asked)
    # The same as where nothing is remembered; and what is damaged is not taken.
    grown = Path("data/index.parquet").read_bytes()
    for file in Path(".convoy/index").glob("pairs-*.parquet"):
        file.write_bytes(b"junk")
    asked.clear()
    index.run(params)
    assert len(asked) >= len(before)
    assert Path("data/index.parquet").read_bytes() == grown


def test_a_picture_that_could_not_be_read_is_compared_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_folder(project / "in")
    line_drawing(1).save(root / "cat/one.png")
    line_drawing(1).save(root / "cat/same.jpg", quality=95)
    with monkeypatch.context() as patch:
        patch.setattr(Pictures, "_read", lambda *_: None)
        index.run(params_with(data={"root": "in"}))
    report = Path("reports/data.json")
    assert json.loads(report.read_text())["near_duplicates"]["clusters"] == 0
    index.run(params_with(data={"root": "in"}))
    assert json.loads(report.read_text())["near_duplicates"]["clusters"] == 1


def test_rows_of_a_parquet_file_that_cannot_be_used_are_listed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = [
        path.read_bytes() for path in sorted(write_folder(project / "in", 60).rglob("*.png"))
    ]
    labels = [row // 30 for row in range(60)]
    contents[3], contents[4], contents[5] = None, b"text", contents[5][:-50]
    labels[6], labels[7] = -1, None
    file = write_hub_file(project / "hub/train.parquet", contents, labels, ("cat", "dog"))
    index.run(params_with(data={"root": str(file)}))
    left_out = json.loads(Path("reports/data.json").read_text())["left_out"]
    assert [(row["path"], row["problem"]) for row in left_out] == [
        ("train.parquet/0000003", "empty: 0 bytes"),
        ("train.parquet/0000004", "not an image: no known format"),
        ("train.parquet/0000005", "truncated: the file ends before the image does"),
        (
            "train.parquet/0000006",
            "no label: the 2 classes that the file names have no number -1",
        ),
        ("train.parquet/0000007", "no label: the row has none"),
    ]
    assert "index: 55 images in 2 classes, 5 left out (1 empty, 2 no label," in (
        capsys.readouterr().out
    )
    table = pq.read_table("data/index.parquet")
    assert table["label"].null_count == 2
    split.run(params_with())
    assert len(pq.read_table("data/split.parquet")) == 55


def test_a_parquet_file_without_any_label(project: Path) -> None:
    write_hub_file(project / "hub/test.parquet", [b"x"] * 3, [-1] * 3, ("cat", "dog"))
    with pytest.raises(PipelineError, match=r"^found no class, expected two or more; .* listed in"):
        index.run(params_with(data={"root": "hub"}))
    assert len(json.loads(Path("reports/data.json").read_text())["left_out"]) == 3


def test_a_tree_of_links_is_used_like_the_files(project: Path) -> None:
    store = write_folder(project / "store", 60)
    for path in sorted(store.rglob("*.png")):
        link = project / "in" / ("test", "train")[int(path.stem) % 4 > 0] / path.parent.name
        link.mkdir(parents=True, exist_ok=True)
        (link / path.name).symlink_to(path)
    expected = _rows_by_content(project / "in")
    assert len(expected) == 60
    assert sum(name == "test" for name, _, _ in expected.values()) == 15
    (project / "in/train/cat/gone.png").symlink_to("nowhere.png")
    (project / "in/train/dog/again").symlink_to("..")
    (project / "in/test/fox").symlink_to(project / "not mounted")
    assert _rows_by_content(project / "in") == expected
    report = json.loads(Path("reports/data.json").read_text())
    assert report["problems"] == {"broken link": 3}
    assert [row["path"] for row in report["left_out"]] == [
        "test/fox",
        "train/cat/gone.png",
        "train/dog/again",
    ]


def test_labels_that_differ_in_case_stop_the_index(project: Path) -> None:
    write_folder(project / "in")
    (project / "in/Cat").mkdir()
    noise(900).save(project / "in/Cat/1.png")
    with pytest.raises(PipelineError, match="the classes 'Cat' and 'cat' differ only in case"):
        index.run(params_with(data={"root": "in"}))


def test_notes_beside_images_are_counted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(project / "in")
    (project / "in/cat/labels.csv").write_text("path,label\n")
    (project / "in/loose.png").touch()
    index.run(params_with(data={"root": "in"}))
    assert capsys.readouterr().out.splitlines()[1] == (
        "index: ignored 2 files that lie beside the class folders or are no images: loose.png,"
        " cat/labels.csv"
    )
